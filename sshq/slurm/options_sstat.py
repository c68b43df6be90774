"""The rows of sstat."""

from sshq.slurm.options import HONOURED as H
from sshq.slurm.options import Option

OPTIONS: tuple[Option, ...] = (
    Option("-a --allsteps", "", "", "all_steps", "flag", H, "all steps of jobs named without one"),
    Option("--delimiter", "TEXT", "", "delimiter", "text", H, "between fields of -p and -P"),
    Option("-e --helpformat", "", "", "helpformat", "flag", H, "list the fields"),
    Option("-h --help", "", "", "help", "flag", H, "show this help"),
    Option("-i --pidformat", "", "", "pids", "flag", H, "JobID, Nodelist and Pids"),
    Option("-j --jobs", "IDS", "", "jobs", "text", H, "these running jobs or steps: 12,13.0,14.batch"),
    Option("-n --noheader", "", "", "noheader", "flag", H, "no header"),
    Option("--noconvert", "", "", "noconvert", "flag", H, "amounts in their own unit"),
    Option("-o --format --fields", "NAMES", "", "format", "text", H, "columns: JobID,MaxRSS%12"),
    Option("-p --parsable", "", "", "parsable", "flag", H, "fields between bars, one at the end too"),
    Option("-P --parsable2", "", "", "parsable2", "flag", H, "fields between bars"),
    Option("--usage", "", "", "usage", "flag", H, "show a short usage"),
    Option("-v --verbose", "", "", "verbose", "flag", H, "say more"),
    Option("-V --version", "", "", "version", "flag", H, "show the version"),
)  # fmt: skip

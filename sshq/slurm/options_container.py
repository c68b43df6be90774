"""The rows of sbatch and srun about containers: Slurm's --container, and the names that the pyxis plugin gives them."""

from sshq.slurm.options import HONOURED as H
from sshq.slurm.options import REFUSED as R
from sshq.slurm.options import Option

_WHAT = "what the job runs in"
_KEPT = "what the job meets, or leaves: a container is removed with its job"

CONTAINER: tuple[Option, ...] = (
    Option("--container --container-image", "IMAGE", "SBATCH_CONTAINER", "container", "image", H,
           "run in this image: a name for podman and docker, a file or docker://NAME for apptainer"),
    Option("--container-mounts", "LIST", "", "container_mounts", "mounts", H,
           "directories and files of the node to see there: SRC[:DST[:ro]],…"),
    Option("--container-workdir", "DIR", "", "container_workdir", "inner_path", H,
           "working directory in the container (default: the job's, which is mounted)"),
    Option("--container-pull", "POLICY", "", "container_pull", "pull_policy", H,
           "sshq: fetch the image: never (default), missing, always"),
    Option("--container-env", "NAMES", "", "container_env", "variables", H,
           "variables that are the submitter's even where the image sets them"),
    Option("--no-container-mount-home", "", "", "no_container_mount_home", "skip", H, "do not mount the home (default)"),
    Option("--no-container-entrypoint", "", "", "no_container_entrypoint", "skip", H,
           "do not run the image's entrypoint (default)"),
    Option("--no-container-remap-root", "", "", "no_container_remap_root", "skip", H, "be oneself in the container (default)"),
    Option("--container-writable", "", "", "container_writable", "skip", H, "let the job write to the container (default)"),
    Option("--container-mount-home", "", "", "container_mount_home", "flag", R,
           "mount the home (--container-mounts can)", "what the job sees"),
    Option("--container-entrypoint", "", "", "container_entrypoint", "flag", R, "run the image's entrypoint", _WHAT),
    Option("--container-remap-root", "", "", "container_remap_root", "flag", R,
           "be root in the container", "whose rights the job has"),
    Option("--container-readonly", "", "", "container_readonly", "flag", R, "keep the job from writing to the container", _WHAT),
    Option("--container-name", "NAME", "", "container_name", "text", R, "name a container to use it again", _KEPT),
    Option("--container-save", "PATH", "", "container_save", "text", R, "save the container", _KEPT),
)  # fmt: skip
CONTAINER_FIELDS = ("container_mounts", "container_workdir", "container_pull", "container_env")  # of an image

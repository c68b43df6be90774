"""`sbatch --test-only`: the answer a submission would get, and no job."""


def test_a_job_that_fits_is_told_where_and_one_that_does_not_is_refused(instance):
    instance.up()
    good = instance.run("sbatch", "--test-only", "--wrap", "true")
    assert (good.returncode, good.stdout) == (0, "")
    assert good.stderr.startswith("sbatch: Job 1 to start at 20")
    assert good.stderr.endswith(" using 1 processors on nodes localhost in partition lab\n")
    bad = instance.run("sbatch", "--test-only", "-c", "9999", "--wrap", "true")
    assert bad.returncode == 1
    assert bad.stderr.splitlines()[0] == "allocation failure: Requested node configuration is not available"
    nowhere = instance.run("sbatch", "--test-only", "-p", "nope", "--wrap", "true")
    assert nowhere.returncode == 1
    assert instance.out("squeue", "-h", "-t", "all") == ""

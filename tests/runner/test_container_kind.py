"""What a node is sent for a container job gives back the script and the environment that are in it (`sshq rebuild`)."""

from hypothesis import given
from hypothesis import strategies as st

from sshq.core.model import JobSpec
from sshq.core.payload import Site
from sshq.kinds import disclose, payload_of

SPEC = JobSpec(name="n", uid=0, user="u", gid=0, group="g", script="", environ="", kind="container", container="box:1", args=("a b", "'"))
NAMES = st.from_regex(r"[A-Z_]{1,3}", fullmatch=True).map(lambda name: f"MY{name}")
VALUES = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)))
SCRIPTS = st.binary(max_size=80) | st.text("'\\\n;}boxmain_ ()", max_size=80).map(str.encode)


@given(SCRIPTS, st.dictionaries(NAMES, VALUES, max_size=4))
def test_what_was_enclosed_comes_back_as_it_was(script, environ):
    sent = payload_of(SPEC, script, Site(node="n1", engine="podman", environ=environ)).script
    assert disclose("container", sent) == (script, environ)
    again = payload_of(SPEC, sent, Site(node="n1", engine="podman", environ=environ)).script
    assert disclose("container", again)[0] == sent


@given(st.binary(max_size=80))
def test_what_was_not_enclosed_stays_as_it_is(text):
    assert disclose("container", text) == (text, {})
    assert disclose("script", text) == (text, {})
    cut = payload_of(SPEC, text, Site(node="n1", engine="podman", environ={"A": "b"})).script[:-3]
    assert disclose("container", cut) == (cut, {})

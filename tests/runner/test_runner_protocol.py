"""The pure half: encoders refuse nonsense, the parser believes nothing and never raises."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sshq.runner import protocol as p

ID = "0123456789abcdef" * 2
RECORD = (
    f"1 {ID} how=exit status=3 why=- sent=- term=0 start=10.50 end=12.75 began=1700000000 ended=1700000002"
    " user=0m1.500000s sys=1m0.25s boot=aa-bb:1:2 left=-"
)
ENTRY = f"{ID} 1000001 7 1 1 file 1 1 4242 999 10.50 -"
HELLO = (
    b"SSHQ n hello 1\nh version 1\nh boot aa-bb:1:2\nh uid 1000\nh user anna\nh home /home/anna b\nh shell /bin/tcsh\n"
    b"h spool /home/anna b/x\nh spool_id 0011\nh fs ext4\nh gen 4\nh floor 4000000\nh open 3000009\nh pid 12\nh start 34\n"
    b"h uptime 5.25\nh clock 1700000000\nh signals env\nh setsid setsid\nh took_over 0\nh scope \nh . 20\n"
)


def greeted() -> p.ReplyParser:
    parser = p.ReplyParser("n")
    [hello] = parser.feed(HELLO)
    assert isinstance(hello, p.Hello)
    return parser


def read(line: str) -> p.Reply:
    [reply] = greeted().feed(line.encode("utf-8", "surrogateescape") + b"\n")
    return reply


def test_a_hello_is_read_whole_and_noise_before_it_is_kept():
    parser = p.ReplyParser("n")
    assert parser.feed(b"Welcome!\nYou have mail.\n$ ") == []
    [hello] = parser.feed(HELLO)
    assert parser.noise == b"Welcome!\nYou have mail.\n$ "
    assert (hello.uid, hello.home, hello.gen, hello.uptime_s, hello.took_over) == (1000, "/home/anna b", 4, 5.25, False)
    assert hello.floor == p.Floor(high=4_000_000, open_seqs=frozenset({3_000_009}))
    assert hello.floor.settled(3_000_008) and not hello.floor.settled(3_000_009) and not hello.floor.settled(4_000_001)


def test_a_greeting_with_another_nonce_is_noise():
    parser = p.ReplyParser("mine")
    assert parser.feed(HELLO) == []
    assert parser.noise.startswith(b"SSHQ n hello")


def test_noise_without_end_is_cut_and_a_greeting_after_it_is_found():
    parser = p.ReplyParser("n")
    for _ in range(300):
        assert parser.feed(b"x" * 1000) == []
    assert len(parser.noise) == 4096
    assert isinstance(parser.feed(HELLO)[0], p.Hello)


def test_a_runner_that_cannot_work_says_why():
    assert p.ReplyParser("n").feed(b"SSHQ n unusable spool-mode /x is open to others\n") == [
        p.Unusable(nonce="n", why="spool-mode", text="/x is open to others")
    ]


def test_a_hello_with_a_line_missing_is_not_believed():
    [reply] = p.ReplyParser("n").feed(HELLO.replace(b"h uid 1000\n", b""))
    assert isinstance(reply, p.Malformed)


REPLIES = [
    (f"S {ID} 12 34 5.60", p.Started(id=ID, pid=12, start=34, uptime_s=5.6)),
    (f"N {ID} boot", p.Refused(id=ID, why="boot")),
    (f"A {ID} won", p.FenceResult(id=ID, result="won")),
    (f"A {ID} lost-forgotten", p.FenceResult(id=ID, result="lost-forgotten")),
    (f"K {ID} asked", p.KillResult(id=ID, result="asked")),
    (f"K {ID} killed 12:sleep,13:sh", p.KillResult(id=ID, result="killed", survivors=("12:sleep", "13:sh"))),
    ("C t 1", p.Acked(tag="t", ok=True)),
    ("R t 0 7 6000000", p.Reserved(tag="t", ok=False, gen=7, floor_high=6_000_000)),
    ("W t 2 -", p.Swept(tag="t", killed=2)),
    ("D t 1 1 0", p.SharedResult(tag="t", present=True, directory=True, writable=False)),
    ("O t 0.25 2048 9.50 ok", p.Load(tag="t", load1=0.25, free_mib=2, uptime_s=9.5, room="ok")),
    ("O t 0.25 - 9.50 no-space", p.Load(tag="t", load1=0.25, free_mib=None, uptime_s=9.5, room="no-space")),
    ("P t 9.50", p.Pong(tag="t", uptime_s=9.5)),
    ("T 12 1", p.Reaped(pid=12, ok=True)),
    ("Z t 0 3", p.Purged(tag="t", ok=False, alive=3)),
    ("E t ack floor could not be written", p.CallFailed(tag="t", call="ack", text="floor could not be written")),
    (f"U {ID} squeue -u me", p.Upcall(id=ID, words=("squeue", "-u", "me"))),
]


@pytest.mark.parametrize(("line", "reply"), REPLIES)
def test_each_line_reads_as_its_reply(line, reply):
    assert read(line) == reply


def test_only_a_refusal_by_the_floor_does_not_prove_that_it_never_ran():
    assert read(f"N {ID} uid").never
    assert not read(f"N {ID} floor").never


@pytest.mark.parametrize("line", [
    "", "X", "S", "K", "A", "N", "U", "E", "Q", "D", "W", f"K {ID} killed a b", f"S {ID} 1 2", f"S {ID} -1 2 3", f"S {ID} 1 2 3 4", f"S {ID[:-1]} 1 2 3", f"S {ID.upper()} 1 2 3", "QQ 1", f"A {ID} maybe",
    f"A {ID} lost", f"K {ID} hugged", "C t 2", "C t", "P t 1e9", "P t nan", f"U {ID}", f"U {ID} \x1b[2J", f"N {ID}", "O t - - 1", "L x end 0",
    "L x entry " + ENTRY, "h uid 0", "SSHQ n hello 1", "C " + "t" * 65 + " 1", f"X {RECORD} how=never", "T 99999999999999999999 1",
])  # fmt: skip
def test_what_is_not_well_formed_is_malformed_and_nothing_else(line):
    assert isinstance(read(line), p.Malformed)


def test_a_record_is_read_strictly():
    record = p.parse_record(RECORD)
    assert (record.how, record.code, record.signal, record.sure) == ("exit", 3, None, True)
    assert (record.user_s, record.system_s, record.cpu_s) == (1.5, 60.25, 61.75)
    assert (record.start_uptime_s, record.end_uptime_s, record.boot, record.survivors) == (10.5, 12.75, "aa-bb:1:2", ())
    assert p.parse_record(RECORD + " later=thing").how == "exit", "a newer supervisor may say more"


@pytest.mark.parametrize(("status", "how", "expected"), [
    ("0", "exit", ("exit", 0, None, True)), ("137", "signal", ("signal", None, 9, False)), ("265", "signal", ("signal", None, 9, True)),
    ("200", "signal", ("exit", 200, None, True)), ("-", "never", ("never", None, None, True)), ("143", "cancel", ("cancel", None, 15, False)),
    ("0", "cancel", ("cancel", 0, None, True)),
])  # fmt: skip
def test_a_status_is_a_code_or_a_signal(status, how, expected):
    record = p.parse_record(RECORD.replace("status=3", f"status={status}").replace("how=exit", f"how={how}"))
    assert (record.how, record.code, record.signal, record.sure) == expected


@pytest.mark.parametrize("how", ["exit", "signal", "cancel"])
@pytest.mark.parametrize("status", [0, 1, 128, 129, 137, 192, 193, 255, 256, 265, 320, 400, 640, 649, 705, 999_999_999, 10**10])
@pytest.mark.parametrize("change", [
    ("=10.50", "=10"), ("0m1.500000s", "12m59s"), ("sent=-", "sent=TERM"), ("left=-", "left=5:6"), ("aa-bb:1:2", "!~"), ("=1m0.25s", "=-"),
])  # fmt: skip
def test_a_record_read_in_one_go_is_what_it_is_word_by_word(how, status, change):
    text = RECORD.replace("how=exit status=3", f"how={how} status={status}").replace(*change, 1)
    assert p.parse_record(text) == p.parse_record(text + " later=thing") is not None


@pytest.mark.parametrize("change", [
    ("1 ", "2 "), ("how=exit", "how=vanished"), ("status=3", "status=x"), ("term=0", "term=2"), (" why=-", ""), ("end=12.75", "end="),
    (ID, ID[:-1]), (" left=-", " left"), ("boot=aa-bb:1:2", "boot=" + "b" * 200), ("sent=-", "sent=- sent=-"),
])  # fmt: skip
def test_a_record_that_is_not_whole_is_none(change):
    assert p.parse_record(RECORD.replace(*change, 1)) is None


def test_a_listing_is_returned_whole_or_not_at_all():
    parser = greeted()
    line = f"L x entry {ENTRY}\n".encode()
    assert parser.feed(b"L x begin 1\n" + line) == []
    [listing] = parser.feed(b"L x end 1\n")
    assert listing.entries[0] == p.parse_entry(ENTRY)
    for broken in (b"L y begin 1\n" + line.replace(b"L x", b"L y") + b"L y end 2\n", b"L y begin 2\n", b"L y end 0\n"):
        assert not any(isinstance(r, p.Listing) for r in parser.feed(broken))
    bad = b"L z begin 1\nL z entry nonsense\nL z end 1\n"
    assert [type(r) for r in parser.feed(bad)] == [p.Malformed, p.Malformed]


def test_an_entry_whose_record_is_another_launchs_is_damaged():
    other = RECORD.replace(ID, "f" * 32)
    assert p.parse_entry(ENTRY[:-1] + RECORD).record.code == 3
    assert p.parse_entry(ENTRY[:-1] + other).damaged and p.parse_entry(ENTRY[:-1] + other).record is None
    assert p.parse_entry(ENTRY[:-1] + "!").damaged and not p.parse_entry(ENTRY).damaged


def test_facts_are_returned_whole_or_not_at_all():
    parser = greeted()
    assert parser.feed(b"F a kernel 6.1\nF b x y\nF a os Debian 12\n") == []
    assert parser.feed(b"F a . 2\n") == [p.FactsReply(tag="a", facts=(("kernel", "6.1"), ("os", "Debian 12")))]
    assert isinstance(parser.feed(b"F b . 2\n")[0], p.Malformed)


def test_a_line_without_end_is_cut_and_the_next_one_is_read():
    parser = greeted()
    replies = [r for _ in range(50) for r in parser.feed(b"y" * 1000)]
    replies += parser.feed(b"tail\nP t 1.00\n")
    assert [type(r) for r in replies] == [p.Malformed, p.Pong]


LINES = st.one_of(
    st.binary(max_size=80),
    st.tuples(
        st.sampled_from("SXNQAKLCRDWFOPTZEUh"),
        st.lists(st.sampled_from([ID, "0", "-", "won", "lost", "x", "1.5", ENTRY]), max_size=6),
    ).map(lambda t: " ".join([t[0], *t[1]]).encode()),
    st.sampled_from(
        [line.encode() for line, _ in REPLIES] + [f"Q {ENTRY}".encode(), f"X {RECORD}".encode(), b"L x begin 1", b"L x end 0"]
    ),
)
CHUNKS = st.lists(st.integers(1, 40), min_size=1, max_size=30)


@settings(max_examples=150, deadline=None)
@given(
    lines=st.lists(LINES, max_size=12),
    cuts=CHUNKS,
    mangle=st.lists(st.tuples(st.integers(0, 2000), st.binary(max_size=3)), max_size=4),
)
def test_no_bytes_make_the_parser_raise_and_how_they_are_cut_does_not_matter(lines, cuts, mangle):
    data = b"motd\n" + HELLO + b"\n".join(lines) + b"\n"
    for at, junk in mangle:
        data = data[:at] + junk + data[at + len(junk) :]
    whole = p.ReplyParser("n").feed(data)
    parser, pieces, at = p.ReplyParser("n"), [], 0
    while at < len(data):
        size = cuts[len(pieces) % len(cuts)]
        pieces.append(data[at : at + size])
        at += size
    assert [r for piece in pieces for r in parser.feed(piece)] == whole


@pytest.mark.parametrize("broken", [
    lambda: p.encode_fence(id="zz", seq=1), lambda: p.encode_fence(id=ID, seq=-1), lambda: p.encode_ping(tag="a b"),
    lambda: p.encode_reserve(tag="t", old_gen=3, new_gen=3, high=1, open_seqs=()), lambda: p.encode_kill(id=ID, seq=1, mode="hug"),
    lambda: p.encode_kill(id=ID, seq=1, mode="signal", signal="NOPE"), lambda: p.encode_ack(tag="t", high=1, open_seqs=(), ids=[ID] * 501),
    lambda: p.encode_shared(tag="t", path="x", name="a", content="b"), lambda: p.encode_shared(tag="t", path="/x", name="../a", content="b"),
    lambda: p.encode_bootstrap(nonce="a'b", store_id="s"), lambda: p.encode_bootstrap(nonce="a", store_id=".."), lambda: p.quote("a\0b"),
    lambda: p.encode_read(nonce="n", path="x"), lambda: p.encode_bootstrap(nonce="a", store_id="s", nice=-5), lambda: p.encode_reap(pid=1, start=1),
])  # fmt: skip
def test_a_call_that_cannot_be_right_is_not_written(broken):
    with pytest.raises(ValueError):
        broken()


def test_a_signal_is_sent_by_name():
    assert [p.signal_name(s) for s in (9, "9", "kill", "SIGUSR1", 10)] == ["KILL", "KILL", "KILL", "USR1", "USR1"]


def test_variables_that_would_hurt_a_shell_are_named_as_dropped():
    environ = {"A": "1", "BASH_FUNC_x%%": "() { :; }", "1X": "", "UID": "0", "SSHQ_HOME": "/x", "a b": "", "PATH": "/bin"}
    assert p.dropped_names(environ) == ("BASH_FUNC_x%%", "1X", "UID", "SSHQ_HOME", "a b")


@pytest.mark.parametrize(("data", "expected"), [
    (b"", None), (b"hello\nSSHQ-READ n 12 34", None), (b"SSHQ-READ n 12 34 5\nabc", p.ReadHead(pid=12, start=34, size=5, body_at=20)),
    (b"motd SSHQ-READ n error missing\n", p.ReadHead(error="missing", body_at=31)), (b"SSHQ-READ n what\n", p.ReadHead(error="malformed", body_at=17)),
])  # fmt: skip
def test_the_head_of_a_reading_channel(data, expected):
    assert p.parse_read_head(data, "n") == expected

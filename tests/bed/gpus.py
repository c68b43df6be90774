"""GPUs that are not there: programs that print what nvidia-smi and rocm-smi print on machines that have some.

`FakeNvidia(directory)` makes directory/nvidia-smi; what it says stands in files beside it: `tool.gpus("Tesla T4")`,
`tool.use(0, pid=1234, mib=18000)`, `tool.hang()`.
"""

from pathlib import Path
from typing import Self

NVIDIA = r"""#!/bin/sh
cd '{state}' || exit 1
[ ! -e hang ] || exec sleep 1000
if [ -e fail ]; then cat fail; exit 9; fi
echo "$@" >>calls
case $* in
*--query-gpu=*mig.mode.current*)
    if [ -e old ]; then echo 'Field "mig.mode.current" is not a valid field to query.'; exit 2; fi
    cat gpus ;;
*--query-gpu=*) sed 's/, [^,]*$//' gpus ;;
*--query-compute-apps=*) cat apps ;;
-L) cat list ;;
*) echo "Invalid combination of input arguments."; exit 2 ;;
esac
[ -s gpus ] || {{ echo 'No devices were found'; exit 6; }}
"""
ROCM = r"""#!/bin/sh
cd '{state}' || exit 1
[ ! -e hang ] || exec sleep 1000
echo "$@" >>calls
case $* in
*--showpidgpus*) cat pids ;;
*--csv*) cat gpus ;;
esac
"""


class FakeTool:
    name = ""
    text = ""

    def __init__(self, directory: Path) -> None:
        self.state = directory / f"{self.name}.state"
        self.state.mkdir(parents=True, exist_ok=True)
        for file in ("gpus", "apps", "list", "pids", "calls"):
            (self.state / file).write_text("")
        self.path = directory / self.name
        self.path.write_text(self.text.format(state=self.state))
        self.path.chmod(0o755)
        directory.chmod(0o755)

    def hang(self, yes: bool = True) -> Self:
        return self._flag("hang", "x" if yes else None)

    def fail(self, text: str | None) -> Self:
        return self._flag("fail", text)

    @property
    def calls(self) -> list[str]:
        return (self.state / "calls").read_text().splitlines()

    def _flag(self, name: str, text: str | None) -> Self:
        if text is None:
            (self.state / name).unlink(missing_ok=True)
        else:
            (self.state / name).write_text(text)
        return self


class FakeNvidia(FakeTool):
    name = "nvidia-smi"
    text = NVIDIA

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._names: tuple[str, ...] = ()
        self._used: dict[int, int] = {}
        self._apps: list[tuple[int, int, str]] = []
        self._mig: dict[int, tuple[str, ...]] = {}

    def gpus(self, *names: str) -> Self:
        self._names = names
        return self._write()

    def uuid(self, index: int) -> str:
        return f"GPU-{index:08x}-1111-2222-3333-444444444444"

    def use(self, index: int, *, pid: int | None = None, mib: int = 1000) -> Self:
        """Somebody has it: a process, or only memory."""
        self._used[index] = mib
        if pid is not None:
            self._apps.append((index, pid, str(mib)))
        return self._write()

    def free(self) -> Self:
        self._used, self._apps = {}, []
        return self._write()

    def mig(self, index: int, *instances: str) -> Self:
        self._mig[index] = instances
        return self._write()

    def old(self) -> Self:
        """A driver that knows nothing of MIG."""
        return self._flag("old", "x")

    def _write(self) -> Self:
        gpus, listed = [], []
        for index, name in enumerate(self._names):
            mode = "Enabled" if index in self._mig else "Disabled" if "A100" in name or "H100" in name else "[N/A]"
            bus = f"00000000:{index + 1:02X}:00.0"
            gpus.append(f"{index}, {self.uuid(index)}, {bus}, {name}, 81920, {self._used.get(index, 4)}, {mode}")
            listed.append(f"GPU {index}: {name} (UUID: {self.uuid(index)})")
            for number, instance in enumerate(self._mig.get(index, ())):
                listed.append(f"  MIG {instance}     Device  {number}: (UUID: MIG-{index}{number}-5555)")
        self._replace("gpus", gpus)
        self._replace("list", listed)
        self._replace("apps", [f"{self.uuid(index)}, {pid}, {mib}" for index, pid, mib in self._apps])
        return self

    def _replace(self, name: str, lines: list[str]) -> None:
        new = self.state / f"{name}.new"
        new.write_text("".join(f"{line}\n" for line in lines))
        new.replace(self.state / name)


class FakeRocm(FakeTool):
    name = "rocm-smi"
    text = ROCM

    def gpus(self, *names: str, used_mib: int = 10) -> Self:
        head = "device,GPU ID,Unique ID,PCI Bus,VRAM Total Memory (B),VRAM Total Used Memory (B),Card series,Card model,Card vendor,Card SKU"
        rows = [
            f"card{i},0x740f,0x{i + 1:x}0ef0d3db6f12111,0000:{i + 0x43:02X}:00.0,68702699520,{used_mib << 20},{name},0x0c34,"
            "Advanced Micro Devices Inc. [AMD/ATI],D67301"
            for i, name in enumerate(names)
        ]  # fmt: skip
        (self.state / "gpus").write_text("\n".join([head, *rows, "", ""]))
        return self

    def use(self, index: int, pid: int) -> Self:
        bar = "=" * 80
        text = f"\n{' GPUs Indexed by PID ':=^80}\nPID {pid} is using 1 DRM device(s):\n{index} \n{bar}\n"
        (self.state / "pids").write_text(text)
        return self

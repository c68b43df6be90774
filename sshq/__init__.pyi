"""What `import sshq` offers, for type checkers; __init__.py finds it when it is asked for."""

from sshq.api.calls import NoPythonError as NoPythonError
from sshq.api.calls import RemoteError as RemoteError
from sshq.api.calls import ResultError as ResultError
from sshq.api.client import Client as Client
from sshq.api.executor import Executor as Executor
from sshq.api.executor import job as job
from sshq.api.jobs import Ending as Ending
from sshq.api.jobs import Job as Job
from sshq.api.jobs import JobFailedError as JobFailedError
from sshq.api.jobs import NodeLostError as NodeLostError
from sshq.api.jobs import OutOfMemoryError as OutOfMemoryError
from sshq.api.jobs import TimeLimitError as TimeLimitError
from sshq.api.pool import Pool as Pool
from sshq.api.poolresults import WorkerLostError as WorkerLostError
from sshq.errors import OptionError as OptionError
from sshq.errors import RefusedError as RefusedError
from sshq.errors import SshqError as SshqError
from sshq.errors import UnreachableError as UnreachableError
from sshq.errors import UserError as UserError

__version__: str

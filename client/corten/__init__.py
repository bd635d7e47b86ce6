"""The Corten client library: `corten.Client` (blocking), `corten.AsyncClient`, `corten.errors`."""

from corten._lazy import __getattr__ as __getattr__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corten import errors as errors
    from corten.client import AsyncClient as AsyncClient
    from corten.client import Client as Client

"""The provider sandbox: a real HTTP server that speaks OpenAI's and Anthropic's APIs.

It stands in for the providers in the demo, in tests and in benchmarks. It is not a model: it
computes its answers from the mail by plain rules. It keeps an exact bill of what it would have
charged, and it fails on command (`faults.py`), so that a test can say what a provider did.

Nothing here imports another package of this project, and nothing here is needed to run against
the real providers.
"""

from deploy.local.sandbox.control_client import SandboxControl
from deploy.local.sandbox.in_process import SandboxServer

__all__ = ["SandboxControl", "SandboxServer"]

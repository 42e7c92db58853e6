"""The contract for publishers in any language: schemas, an AsyncAPI document, test vectors.

`write` makes the files under `deploy/contracts`, `drift` tells whether they are up to date, and
`check_vectors` checks our own code against the vectors. Nothing here is needed to publish.
"""

from events.contract.asyncapi import make_asyncapi
from events.contract.files import drift, read_vectors, render, write
from events.contract.keeping import Changed
from events.contract.refusals import REFUSALS, Refusal, Teller
from events.contract.schemas import event_schemas
from events.contract.vectors import Checked, Vectors, check_vectors, make_vectors

__all__ = [
    "REFUSALS",
    "Changed",
    "Checked",
    "Refusal",
    "Teller",
    "Vectors",
    "check_vectors",
    "drift",
    "event_schemas",
    "make_asyncapi",
    "make_vectors",
    "read_vectors",
    "render",
    "write",
]

"""What the rules answer for an account, with no provider asked."""

from events import MailInput, Operation
from events.analyses import AnalysisInput
from store.accounts import Account
from workers.analyses.categories import vocabulary_parts
from workers.analyses.ending import Found
from workers.analyses.prefilter import answer_by_rules, stands
from workers.app import App


def answer(app: App, account: Account, operation: str, given: AnalysisInput) -> Found | None:
    """What the rules say of `given`, in words that the account left as they are."""
    if operation != Operation.CLASSIFY or not isinstance(given, MailInput):
        return None
    signals = answer_by_rules(given)
    if signals is None or not stands(signals, *vocabulary_parts(app, account)):
        return None
    return Found(signals=signals.signals())

"""The words of an account's own, as its plan lets them into a question.

A plan without categories of one's own leaves them out; they are kept, and count again with a plan
that has them. Built-ins can be changed with any plan.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from events import CategoryOverride, CustomCategory
from store import accounts
from workers.app import App


def own_categories(app: App, account: accounts.Account) -> Sequence[Mapping[str, Any]]:
    """The account's own categories that count with its plan, as they are stored."""
    included = app.includes_categories(account.plan, account.plan_status)
    return account.custom_categories if included else ()


def vocabulary_parts(
    app: App, account: accounts.Account
) -> tuple[list[CustomCategory], list[CategoryOverride]]:
    """What of its own an account's mail is described with: categories, and changed built-ins."""
    return (
        [CustomCategory.model_validate(one) for one in own_categories(app, account)],
        [CategoryOverride.model_validate(one) for one in account.category_overrides],
    )

"""No order of claims, answers, losses, periods and repetitions overspends the credits."""

from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, func, select

from events import AccountUpdated, CreditPeriod
from store.engine import Database
from store.schema import analyses, credit_periods, metadata
from tests.unit.workers.analyses.test_attempts import (
    Desk,
    Step,
    answered,
    failed,
    open_desk,
)
from tests.unit.workers.standins import clockwork_of, stand_in_app
from workers.providers.port import Answer, Failure, OutcomeClass, Question

LIMITS = (0, 1, 2, None)
CALLS: dict[str, Step] = {
    "answered": answered,
    "overloaded": failed(OutcomeClass.UNAVAILABLE, status=529),
    "refused": failed(OutcomeClass.BAD_REQUEST),
    "off the schema": failed(OutcomeClass.BAD_ANSWER, status=200),
    "lost": failed(OutcomeClass.UNAVAILABLE, status=None, sent=True),
}

ids = st.integers(0, 3).map(lambda number: f"req-{number}")
call = st.sampled_from(sorted(CALLS))
steps = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["ask", "resume"]), ids, call, st.booleans()),
        st.tuples(st.just("period"), st.integers(1, 3), st.sampled_from(LIMITS)),
        st.tuples(st.just("key"), st.booleans()),
        st.tuples(st.just("later"), st.sampled_from([60, 13 * 3600])),
    ),
    max_size=14,
)


class Books:
    """The account's credits as they ought to be, beside the desk where they are spent."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.revision = 1
        self.most: Counter[int] = Counter()
        self.unlimited: set[int] = set()

    def take(self, step: tuple[Any, ...]) -> None:
        """Do one step of an order."""
        doing, *given = step
        act: Callable[..., None] = getattr(self, f"_{doing}")
        act(*given)
        self.check()

    def _ask(self, request_id: str, how: str, takeover: bool) -> None:
        self._calling(how, request_id if takeover else None)
        self.desk.ask(request_id)

    def _resume(self, request_id: str, how: str, takeover: bool) -> None:
        self._calling(how, request_id if takeover else None)
        with self.desk.app.database.read() as connection:
            known = connection.execute(
                select(func.count()).where(analyses.c.request_id == request_id)
            ).scalar_one()
        if known:
            self.desk.resume(request_id)

    def _calling(self, how: str, taken_over: str | None) -> None:
        def step(question: Question) -> Answer | Failure:
            if taken_over is not None:
                self.desk.lose_the_worker()
                self.desk.provider.steps = [CALLS[how]]
                self.desk.resume(taken_over)
            return CALLS[how](question)

        self.desk.provider.steps = [step]

    def _period(self, month: int, limit: int | None) -> None:
        self.revision += 1
        start = datetime(2026, month, 1, tzinfo=UTC)
        self.desk.take(
            AccountUpdated(
                revision=self.revision,
                plan="business",
                ai_consent=True,
                credits=limit,
                credit_period=CreditPeriod(start=start, end=datetime(2026, 12, 1, tzinfo=UTC)),
            )
        )
        at = int(start.timestamp() * 1000)
        self.most[at] = max(self.most[at], limit or 0)
        if limit is None:
            self.unlimited.add(at)

    def _key(self, removed: bool) -> None:
        self.revision += 1
        key_id = self.desk.give_key(self.revision)
        if removed:
            self.desk.set_key(key_id, status="invalid", reason="revoked")

    def _later(self, seconds: int) -> None:
        clockwork_of(self.desk.app).pass_time(seconds)

    def check(self) -> None:
        """Hold the credits against the requests."""
        with self.desk.app.database.read() as connection:
            rows = connection.execute(select(credit_periods)).all()
            holding = Counter(
                connection.execute(
                    select(analyses.c.credit_period_at).where(
                        analyses.c.credit_period_at.is_not(None)
                    )
                ).scalars()
            )
            completed = connection.execute(
                select(func.count()).where(
                    analyses.c.state == "completed", analyses.c.credential == "platform"
                )
            ).scalar_one()
        assert {row.period_start_at: row.reserved for row in rows if row.reserved} == holding
        assert sum(row.used for row in rows) == completed
        for row in rows:
            assert row.used >= 0
            if row.period_start_at not in self.unlimited:
                assert row.used + row.reserved <= self.most[row.period_start_at]


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(order=steps)
def test_no_order_overspends_and_what_is_held_is_what_requests_hold(
    database: Database, tmp_path: Path, order: list[tuple[Any, ...]]
) -> None:
    with database.write() as connection:
        for table in reversed(metadata.sorted_tables):
            connection.execute(delete(table))
    books = Books(open_desk(stand_in_app(tmp_path, database)))
    books._period(1, 1)
    for step in order:
        books.take(step)

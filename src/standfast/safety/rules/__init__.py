"""The rules: one file each. A rule looks at one operation and says what speaks against running it by itself."""

from standfast.safety.rules.case import Case, Rule
from standfast.safety.rules.column_sensitive import SensitiveColumns
from standfast.safety.rules.document_replaced import ReplacedDocuments
from standfast.safety.rules.freeze import Freezes
from standfast.safety.rules.function import Functions
from standfast.safety.rules.key_changed import ChangedKeys
from standfast.safety.rules.object_known import KnownObjects
from standfast.safety.rules.rows_elsewhere import RowsElsewhere
from standfast.safety.rules.rows_expected import ExpectedRows
from standfast.safety.rules.rows_limit import RowLimit
from standfast.safety.rules.rows_unmeasured import UnmeasuredRows
from standfast.safety.rules.rows_unstable import UnstableRows
from standfast.safety.rules.statement_kind import StatementKinds
from standfast.safety.rules.statement_where import WhereRequired
from standfast.safety.rules.table_writes import TableWrites
from standfast.safety.rules.value_limit import ValueLimits

__all__ = ["RULES", "Case", "Rule"]

RULES: tuple[Rule, ...] = (
    StatementKinds(),
    WhereRequired(),
    KnownObjects(),
    TableWrites(),
    RowsElsewhere(),
    RowLimit(),
    ExpectedRows(),
    UnmeasuredRows(),
    UnstableRows(),
    SensitiveColumns(),
    ChangedKeys(),
    ReplacedDocuments(),
    ValueLimits(),
    Functions(),
    Freezes(),
)
"""All rules, in the order in which their findings are shown."""

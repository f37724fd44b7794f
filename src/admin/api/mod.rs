//! Bodies of the admin API.

mod backends;
mod books;
mod budgets;
mod keys;
mod switches;

pub use backends::{AccountLine, BackendLine, BackendList, DiscoverLine, EndpointLine, LoadLine, ModelLine};
pub use books::{
    AuditAnswer, BillAnswer, BillLine, BillNumber, Decimal, DisputedLine, FindingLine, PartLine, RateUsed, ReleaseNode,
    ReleasedNode, SliceLine, StoreLine, UsageAnswer, UsageLine, WhyAnswer,
};
pub use budgets::{BudgetLine, BudgetList, RaiseBudget, RaiseLine};
pub use keys::{CreateKey, KeyActLine, KeyDetail, KeyLine, KeyList, NewSecret, RevokeKey, RotateKey};
pub use switches::{Switch, SwitchLine, SwitchList};

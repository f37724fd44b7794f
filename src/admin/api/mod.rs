//! Bodies of the admin API.

mod backends;
mod books;
mod budgets;
mod decisions;
mod keys;
mod replay;
mod switches;

pub use backends::{AccountLine, BackendLine, BackendList, DiscoverLine, EndpointLine, LoadLine, ModelLine};
pub use books::{
    AbsentLine, AuditAnswer, BillAnswer, BillLine, BillNumber, Decimal, DisputedLine, FindingLine, PartLine, RateUsed,
    ReleaseNode, ReleasedNode, SliceLine, StoreLine, UsageAnswer, UsageLine, WhyAnswer,
};
pub use budgets::{BudgetLine, BudgetList, RaiseBudget, RaiseLine};
pub use decisions::{DecisionAnswer, ExplainRequest, OutcomeLine};
pub use keys::{CreateKey, KeyActLine, KeyDetail, KeyLine, KeyList, KeyRevoked, NewSecret, RevokeKey, RotateKey};
pub use replay::{CandidateLine, ChangeLine, ExhaustedLine, MoveLine, ReplayAnswer, SideLine, VerifiedLine};
pub use switches::{Switch, SwitchLine, SwitchList};

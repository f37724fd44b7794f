//! Failures: whose fault a failed attempt is, and where the request may go next.

/// Whose fault a failure is, and so where the request may go next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// This endpoint or account cannot now; another may (429, 503, 529, overdue account, our own credential).
    Elsewhere,
    /// This model cannot serve this request; a more able one may (context length, an ability).
    NotHere,
    /// Nobody should be asked again: the client gets it as it is (content verdict, schema).
    Never,
}

/// What a failure says of the account, the endpoint or the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A quota: lowers concurrency, parks the account, is no fault of the backend (429).
    Quota,
    /// The account's credential or bill (401, 402, 403, overdue): parks the account.
    Account,
    /// The backend is broken or overloaded: counts for the breaker.
    Backend,
    /// Nobody's: the request cannot be served (400, content verdict).
    Request,
}

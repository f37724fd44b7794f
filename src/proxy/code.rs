//! The error codes that clients see, each with its status and OpenAI's type for it.

use http::StatusCode;

/// An error code of the interface; `as_str` is what the client sees and what metrics count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// A field is missing, malformed or contradictory.
    InvalidRequest,
    /// No candidate's context is long enough.
    ContextLengthExceeded,
    /// No candidate can do what a field asks for.
    UnsupportedParameter,
    /// A team with a budget may use priced models only.
    ModelHasNoPrice,
    /// The key is missing, unknown or expired.
    InvalidApiKey,
    /// A budget has too little left.
    BudgetExceeded,
    /// An operator has switched the key or its team off, or what was answering.
    SwitchedOff,
    /// The team may not name this route or model.
    ModelNotAllowed,
    /// No candidate is where the team's data may go.
    LocationNotAllowed,
    /// No route, model or alias has that name.
    ModelNotFound,
    /// Turnpike does not serve that path or method.
    EndpointNotSupported,
    /// The body is larger than `limits.body`.
    RequestTooLarge,
    /// A limit of requests, tokens or places is reached for now.
    RateLimitExceeded,
    /// Every attempt failed.
    UpstreamError,
    /// Nobody can be asked now.
    NoCandidate,
    /// Turnpike itself is full or draining.
    Overloaded,
    /// The store of budgets or the journal cannot be used, and what cannot be booked is not spent.
    BudgetStoreUnavailable,
    /// The key is not known here, and the store that may know it is away.
    KeyStoreUnavailable,
    /// The request's time ran out.
    DeadlineExceeded,
}

impl Code {
    /// All of them.
    pub const ALL: [Self; 19] = [
        Self::InvalidRequest,
        Self::ContextLengthExceeded,
        Self::UnsupportedParameter,
        Self::ModelHasNoPrice,
        Self::InvalidApiKey,
        Self::BudgetExceeded,
        Self::SwitchedOff,
        Self::ModelNotAllowed,
        Self::LocationNotAllowed,
        Self::ModelNotFound,
        Self::EndpointNotSupported,
        Self::RequestTooLarge,
        Self::RateLimitExceeded,
        Self::UpstreamError,
        Self::NoCandidate,
        Self::Overloaded,
        Self::BudgetStoreUnavailable,
        Self::KeyStoreUnavailable,
        Self::DeadlineExceeded,
    ];

    /// The code as clients see it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidRequest => "invalid_request",
            Self::ContextLengthExceeded => "context_length_exceeded",
            Self::UnsupportedParameter => "unsupported_parameter",
            Self::ModelHasNoPrice => "model_has_no_price",
            Self::InvalidApiKey => "invalid_api_key",
            Self::BudgetExceeded => "budget_exceeded",
            Self::SwitchedOff => "switched_off",
            Self::ModelNotAllowed => "model_not_allowed",
            Self::LocationNotAllowed => "location_not_allowed",
            Self::ModelNotFound => "model_not_found",
            Self::EndpointNotSupported => "endpoint_not_supported",
            Self::RequestTooLarge => "request_too_large",
            Self::RateLimitExceeded => "rate_limit_exceeded",
            Self::UpstreamError => "upstream_error",
            Self::NoCandidate => "no_candidate",
            Self::Overloaded => "overloaded",
            Self::BudgetStoreUnavailable => "budget_store_unavailable",
            Self::KeyStoreUnavailable => "key_store_unavailable",
            Self::DeadlineExceeded => "deadline_exceeded",
        }
    }

    /// The status that goes with it.
    pub const fn status(self) -> StatusCode {
        match self {
            Self::InvalidRequest | Self::ContextLengthExceeded | Self::UnsupportedParameter | Self::ModelHasNoPrice => {
                StatusCode::BAD_REQUEST
            }
            Self::InvalidApiKey => StatusCode::UNAUTHORIZED,
            Self::BudgetExceeded => StatusCode::PAYMENT_REQUIRED,
            Self::SwitchedOff | Self::ModelNotAllowed | Self::LocationNotAllowed => StatusCode::FORBIDDEN,
            Self::ModelNotFound | Self::EndpointNotSupported => StatusCode::NOT_FOUND,
            Self::RequestTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::RateLimitExceeded => StatusCode::TOO_MANY_REQUESTS,
            Self::UpstreamError => StatusCode::BAD_GATEWAY,
            Self::NoCandidate | Self::Overloaded | Self::BudgetStoreUnavailable | Self::KeyStoreUnavailable => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    /// OpenAI's `type` for it.
    pub(super) const fn kind(self) -> &'static str {
        match self {
            Self::BudgetExceeded => "insufficient_quota",
            Self::InvalidApiKey => "authentication_error",
            Self::SwitchedOff | Self::ModelNotAllowed | Self::LocationNotAllowed => "permission_error",
            Self::RateLimitExceeded => "rate_limit_error",
            Self::UpstreamError
            | Self::NoCandidate
            | Self::Overloaded
            | Self::BudgetStoreUnavailable
            | Self::KeyStoreUnavailable
            | Self::DeadlineExceeded => "server_error",
            Self::InvalidRequest
            | Self::ContextLengthExceeded
            | Self::UnsupportedParameter
            | Self::ModelHasNoPrice
            | Self::ModelNotFound
            | Self::EndpointNotSupported
            | Self::RequestTooLarge => "invalid_request_error",
        }
    }
}

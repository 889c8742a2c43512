//! Why a question about roll-ups has no answer, as JSON.

use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

/// Why there is no answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Refused {
    pub(super) code: StatusCode,
    pub(super) error: String,
}

impl Refused {
    pub(super) fn bad(error: impl Into<String>) -> Self {
        Self { code: StatusCode::BAD_REQUEST, error: error.into() }
    }

    pub(super) fn not_found(error: impl Into<String>) -> Self {
        Self { code: StatusCode::NOT_FOUND, error: error.into() }
    }

    /// The database has said nothing, or nothing that can be read.
    pub(super) fn unavailable(error: impl Into<String>) -> Self {
        Self { code: StatusCode::SERVICE_UNAVAILABLE, error: error.into() }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        // InfluxDB's clients read `message`.
        body(self.code, &json!({ "error": self.error, "message": self.error }))
    }
}

/// An answer in JSON.
pub(super) fn body(code: StatusCode, value: &Value) -> Response {
    (code, [(CONTENT_TYPE, "application/json")], format!("{value}\n")).into_response()
}

//! What one key may hold.

use config::ValueKind;

/// What the client says is wrong with a property's name, or with its value where that is given. No value is in the sentence.
pub type PropertyMistake = fn(name: &str, value: Option<&str>) -> Option<String>;

/// One key of one section. The rules of a section stand beside its struct.
#[derive(Debug)]
pub(crate) struct Rule {
    pub section: &'static str,
    pub key: &'static str,
    pub allowed: Allowed,
    /// The key holds a map whose values are `allowed`.
    pub is_map: bool,
    pub is_secret: bool,
}

/// Which values are allowed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Allowed {
    /// A whole number, both ends included.
    Whole { min: i64, max: i64 },
    /// The same, or null.
    WholeOrNull { min: i64, max: i64 },
    /// A number that is finite.
    Number,
    /// `true` or `false`.
    Bool,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A text that `fits`; `what` completes "expected …".
    Text { what: &'static str, fits: fn(&str) -> bool },
    /// A text of which `mistake` has nothing to say; `what` completes "expected …".
    Told { what: &'static str, mistake: fn(&str) -> Option<String> },
    /// A text that `fits`, or null.
    TextOrNull { what: &'static str, fits: fn(&str) -> bool },
}

impl Rule {
    /// The setting's whole name, such as `engine.workers`.
    pub(crate) fn path(&self) -> String {
        format!("{}.{}", self.section, self.key)
    }

    pub(crate) const fn new(section: &'static str, key: &'static str, allowed: Allowed) -> Self {
        Self { section, key, allowed, is_map: false, is_secret: false }
    }

    pub(crate) const fn map(section: &'static str, key: &'static str, allowed: Allowed) -> Self {
        Self { section, key, allowed, is_map: true, is_secret: false }
    }

    pub(crate) const fn secret(section: &'static str, key: &'static str, allowed: Allowed) -> Self {
        Self { section, key, allowed, is_map: false, is_secret: true }
    }
}

impl Allowed {
    /// A whole number from the first to the second.
    pub(crate) const fn within((min, max): (i64, i64)) -> Self {
        Self::Whole { min, max }
    }

    /// Completes "expected …".
    pub(crate) fn expected(&self) -> String {
        match self {
            Self::Whole { min, max } => format!("a whole number from {min} to {max}"),
            Self::WholeOrNull { min, max } => format!("a whole number from {min} to {max}, or null"),
            Self::Number => "a finite number".into(),
            Self::Bool => "true or false".into(),
            Self::Choice(words) => format!("one of {}", words.join(", ")),
            Self::Text { what, .. } | Self::Told { what, .. } => (*what).into(),
            Self::TextOrNull { what, .. } => format!("{what}, or null"),
        }
    }

    /// Reads a text as the value it stands for. `is_plain`: written without quotes, so that `null` may mean null.
    ///
    /// # Errors
    /// What was expected.
    pub(crate) fn check(&self, text: &str, is_plain: bool) -> Result<ValueKind, String> {
        let is_null = is_plain && matches!(text, "" | "~" | "null" | "Null" | "NULL");
        let read = match self {
            Self::WholeOrNull { .. } | Self::TextOrNull { .. } if is_null => Some(ValueKind::Nil),
            Self::Whole { min, max } | Self::WholeOrNull { min, max } => {
                text.parse().ok().filter(|number| (min..=max).contains(&number)).map(ValueKind::I64)
            }
            Self::Number => text.parse().ok().filter(|number: &f64| number.is_finite()).map(ValueKind::Float),
            Self::Bool => text.parse().ok().map(ValueKind::Boolean),
            Self::Choice(words) => words.contains(&text).then(|| ValueKind::String(text.into())),
            Self::Text { .. } if is_null && !text.is_empty() => None,
            Self::Text { fits, .. } | Self::TextOrNull { fits, .. } => {
                fits(text).then(|| ValueKind::String(text.into()))
            }
            Self::Told { mistake, .. } => match mistake(text) {
                Some(what) => return Err(what),
                None => Some(ValueKind::String(text.into())),
            },
        };
        read.ok_or_else(|| format!("expected {}", self.expected()))
    }
}

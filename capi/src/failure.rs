//! Errors as C holds them.

use std::ffi::{CStr, CString};

use mdlm::Error;

use crate::handle::{Handle, Table};

/// What went wrong.
pub struct Failure {
    code: CString,
    message: CString,
    hint: Option<CString>,
}

impl Handle for Failure {
    const NAME: &'static str = "error";

    fn table() -> &'static Table<Self> {
        static ALL: Table<Failure> = Table::new();
        &ALL
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self {
            code: text(error.code()),
            message: text(&error.to_string()),
            hint: error.hint().as_deref().map(text),
        }
    }
}

impl Failure {
    pub(crate) fn code(&self) -> &CStr {
        &self.code
    }

    pub(crate) fn message(&self) -> &CStr {
        &self.message
    }

    pub(crate) fn hint(&self) -> Option<&CStr> {
        self.hint.as_deref()
    }
}

/// Text for C, in which no zero can stand.
fn text(text: &str) -> CString {
    CString::new(text.replace('\0', "\u{FFFD}")).unwrap_or_default()
}

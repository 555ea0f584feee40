//! The border between C and Rust: pointers become slices and text, results become states and errors, and no panic
//! passes.

#![allow(unsafe_code)] // pointers of C are followed here

use std::any::Any;
use std::ffi::{CStr, c_char};
use std::mem::size_of;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::{null, null_mut};
use std::{ptr, slice};

use mdlm::{Error, Result};

use crate::failure::Failure;
use crate::handle::Handle;

/// How a call has ended.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It did what it should.
    Ok = 0,
    /// Nothing was left to do.
    Done = 1,
    /// It was cancelled; what had been done stays.
    Cancelled = 2,
    /// It failed, and changed nothing.
    Error = -1,
}

/// What a call returns, and what it returns when it has failed.
pub(crate) trait Outcome {
    const FAILED: Self;
}

impl Outcome for Status {
    const FAILED: Self = Self::Error;
}

impl<T> Outcome for *mut T {
    const FAILED: Self = null_mut();
}

impl<T> Outcome for *const T {
    const FAILED: Self = null();
}

/// Every call from C: does the work and, if it fails or panics, says so in `error`.
///
/// # Safety
/// `error` is null or can be written.
pub(crate) unsafe fn guard<T: Outcome>(
    error: *mut *mut Failure,
    work: impl FnOnce() -> Result<T>,
) -> T {
    let caught = catch_unwind(AssertUnwindSafe(work));
    let result = caught.unwrap_or_else(|panic| Err(Error::Internal(said(&*panic))));
    let (value, failure) = match result {
        Ok(value) => (value, None),
        Err(error) => (T::FAILED, Some(error)),
    };
    if !error.is_null() {
        let failure = failure.map_or(null_mut(), |error| Failure::from(error).export());
        // SAFETY: it is not null, so it can be written
        unsafe { error.write(failure) };
    }
    value
}

/// The words of a panic.
fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| text.to_string());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    format!("a panic: {}", text.as_deref().unwrap_or("without words"))
}

fn missing(name: &str) -> Error {
    Error::argument(name, "NULL", "is missing")
}

/// Text of C; `None` for null.
///
/// # Safety
/// `text` is null or ends with a zero and stays as it is during the call.
pub(crate) unsafe fn optional<'a>(name: &str, text: *const c_char) -> Result<Option<&'a str>> {
    if text.is_null() {
        return Ok(None);
    }
    // SAFETY: it is not null, so it ends with a zero
    let text = unsafe { CStr::from_ptr(text) };
    let decoded = text.to_str().map(Some);
    decoded.map_err(|error| {
        let shown: String = text.to_string_lossy().chars().take(40).collect();
        let problem = format!("is not UTF-8 at byte {}", error.valid_up_to());
        Error::argument(name, shown, problem)
    })
}

/// Text of C.
///
/// # Safety
/// As [`optional`].
pub(crate) unsafe fn required<'a>(name: &str, text: *const c_char) -> Result<&'a str> {
    // SAFETY: as the caller's
    unsafe { optional(name, text) }?.ok_or_else(|| missing(name))
}

/// An array of C, which is null only if it is empty.
///
/// # Safety
/// `data` is null or has `count` elements, which stay as they are during the call.
pub(crate) unsafe fn array<'a, T>(name: &str, data: *const T, count: usize) -> Result<&'a [T]> {
    match (data.is_null(), count) {
        (_, 0) => Ok(&[]),
        (true, _) => Err(missing(name)),
        (_, count) if count > isize::MAX as usize / size_of::<T>() => {
            Err(Error::argument(name, count, "is more than memory can hold"))
        }
        // SAFETY: it is neither null nor larger than memory, so it has that many elements
        _ => Ok(unsafe { slice::from_raw_parts(data, count) }),
    }
}

/// Writes a value.
///
/// # Safety
/// `out` is null or can be written.
pub(crate) unsafe fn write<T>(name: &str, out: *mut T, value: T) -> Result<Status> {
    if out.is_null() {
        return Err(missing(name));
    }
    // SAFETY: it is not null, so it can be written
    unsafe { out.write(value) };
    Ok(Status::Ok)
}

/// Room for values that C gives: where, how many, and where to say how many there are.
pub(crate) struct Room<T> {
    data: *mut T,
    capacity: usize,
    length: *mut usize,
}

impl<T: Copy> Room<T> {
    pub(crate) fn new(data: *mut T, capacity: usize, length: *mut usize) -> Self {
        Self {
            data,
            capacity,
            length,
        }
    }

    /// Says how many values there are and writes them, unless only their number was asked for.
    ///
    /// # Safety
    /// `data` is null or has room for `capacity` values; `length` is null or can be written.
    pub(crate) unsafe fn fill(self, values: &[T]) -> Result<Status> {
        // SAFETY: as the caller's
        unsafe { self.fill_with(values, values.len()) }
    }

    /// # Safety
    /// As [`Room::fill`].
    unsafe fn fill_with(self, values: &[T], said: usize) -> Result<Status> {
        if !self.length.is_null() {
            // SAFETY: it is not null, so it can be written
            unsafe { self.length.write(said) };
        }
        match (self.data.is_null(), values.len()) {
            (true, _) if self.capacity == 0 => {}
            (true, _) => return Err(missing("buffer")),
            (_, needed) if needed > self.capacity => {
                let problem = format!("is too small: {needed} are needed");
                return Err(Error::argument("capacity", self.capacity, problem));
            }
            // SAFETY: it has room for `capacity` values, which are at least as many
            _ => unsafe { ptr::copy_nonoverlapping(values.as_ptr(), self.data, values.len()) },
        }
        Ok(Status::Ok)
    }
}

impl Room<c_char> {
    /// As [`Room::fill`] for text, behind which a zero is written that does not count.
    ///
    /// # Safety
    /// As [`Room::fill`].
    pub(crate) unsafe fn fill_text(self, text: &str) -> Result<Status> {
        let bytes = text.bytes().chain([0]).map(|byte| byte as c_char);
        // SAFETY: as the caller's
        unsafe { self.fill_with(&bytes.collect::<Vec<_>>(), text.len()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_panic_passes() {
        let mut error = null_mut();
        let work = || -> Result<Status> { panic!("on purpose, {}", 1) };
        // SAFETY: the place for the error is ours
        let status = unsafe { guard(&raw mut error, work) };
        assert_eq!(status, Status::Error);
        let failure = Failure::find(error).unwrap();
        assert_eq!(failure.code().to_str().unwrap(), "internal");
        let message = failure.message().to_str().unwrap();
        assert!(message.contains("a panic: on purpose, 1"), "{message}");
        Failure::release(error).unwrap();
        // SAFETY: nothing is written where nobody wants to know
        let status = unsafe { guard(null_mut(), || -> Result<Status> { panic!("again") }) };
        assert_eq!(status, Status::Error);
    }
}

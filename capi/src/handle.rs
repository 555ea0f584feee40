//! What C holds: numbers in the shape of pointers, which nobody follows.
//!
//! A number is given once and for one object, so one that was freed, or is of something else, is told from one that is
//! in use, and an object lives until the last call with it has returned.

use std::collections::BTreeMap;
use std::ptr::without_provenance_mut;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use mdlm::{Error, Result};

static NEXT: AtomicUsize = AtomicUsize::new(1);

/// Objects of a kind, by their numbers.
pub(crate) struct Table<T>(Mutex<BTreeMap<usize, Arc<T>>>);

impl<T> Table<T> {
    pub(crate) const fn new() -> Self {
        Self(Mutex::new(BTreeMap::new()))
    }

    fn with<R>(&self, work: impl FnOnce(&mut BTreeMap<usize, Arc<T>>) -> R) -> R {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A kind of object that C holds.
pub(crate) trait Handle: Sized + 'static {
    /// What it is called in errors.
    const NAME: &'static str;

    /// All of its kind.
    fn table() -> &'static Table<Self>;

    /// Gives an object away.
    fn export(self) -> *mut Self {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Self::table().with(|objects| objects.insert(number, Arc::new(self)));
        without_provenance_mut(number)
    }

    /// The object that was given away.
    fn find(handle: *const Self) -> Result<Arc<Self>> {
        let found = Self::table().with(|objects| objects.get(&handle.addr()).cloned());
        found.ok_or_else(|| unknown(handle))
    }

    /// Takes an object back; nothing to do for null.
    fn release(handle: *mut Self) -> Result<()> {
        let taken = Self::table().with(|objects| objects.remove(&handle.addr()));
        match taken.is_some() || handle.is_null() {
            true => Ok(()),
            false => Err(unknown(handle)),
        }
    }
}

/// An error that says what was given in place of an object.
fn unknown<T: Handle>(handle: *const T) -> Error {
    match handle.is_null() {
        true => Error::argument(T::NAME, "NULL", "is missing"),
        false => {
            let problem = format!("is no {}, or one that was freed", T::NAME);
            Error::argument(T::NAME, format!("{handle:p}"), problem)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ptr::null_mut;

    use super::*;

    struct Thing;
    struct Other;

    impl Handle for Thing {
        const NAME: &'static str = "thing";

        fn table() -> &'static Table<Self> {
            static ALL: Table<Thing> = Table::new();
            &ALL
        }
    }

    impl Handle for Other {
        const NAME: &'static str = "other";

        fn table() -> &'static Table<Self> {
            static ALL: Table<Other> = Table::new();
            &ALL
        }
    }

    #[test]
    fn what_was_freed_or_is_something_else_is_told() {
        let refused = |result: Result<Arc<Thing>>, part: &str| {
            let error = result.err().unwrap().to_string();
            assert!(error.contains(part), "{error}");
        };
        let (thing, other) = (Thing.export(), Other.export());
        let held = Thing::find(thing).unwrap();
        refused(Thing::find(other.cast()), "is no thing");
        refused(Thing::find(null_mut()), "thing = NULL");
        Thing::release(thing).unwrap();
        refused(Thing::find(thing), "was freed");
        assert!(Thing::release(thing).is_err());
        assert!(Thing::release(other.cast()).is_err());
        Thing::release(null_mut()).unwrap();
        // a call under way keeps it
        assert_eq!(Arc::strong_count(&held), 1);
        Other::release(other).unwrap();
    }
}

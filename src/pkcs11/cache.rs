//! What is remembered of a token's objects: handles by session, facts and where they were seen by token, and how all of it is
//! forgotten.
#![forbid(unsafe_code)]

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use cryptoki::object::ObjectHandle;

use super::key::{Class, Filter, Key, Listed};

/// Keys of a class that are remembered of a token; who has more starts again empty. A key takes half a kilobyte.
const KEYS: usize = 65_536;

/// Handles of a class that are remembered by one session of many. What is not is had from the token's for one call.
const HANDLES: usize = 16_384;

/// Forgotten identifiers that a session can catch up with; one that missed more forgets everything.
const REMEMBERED: usize = 64;

/// Values by class and CKA_ID, so many of each class at most.
struct ById<T, const CAPACITY: usize> {
    public: HashMap<Vec<u8>, T>,
    private: HashMap<Vec<u8>, T>,
    secret: HashMap<Vec<u8>, T>,
}

// Derived, it would ask for `T: Default`.
impl<T, const CAPACITY: usize> Default for ById<T, CAPACITY> {
    fn default() -> Self {
        Self { public: HashMap::new(), private: HashMap::new(), secret: HashMap::new() }
    }
}

impl<T, const CAPACITY: usize> ById<T, CAPACITY> {
    fn of(&self, class: Class) -> &HashMap<Vec<u8>, T> {
        match class {
            Class::PublicKey => &self.public,
            Class::PrivateKey => &self.private,
            Class::SecretKey => &self.secret,
        }
    }

    fn insert(&mut self, class: Class, id: &[u8], value: T) {
        let map = match class {
            Class::PublicKey => &mut self.public,
            Class::PrivateKey => &mut self.private,
            Class::SecretKey => &mut self.secret,
        };
        if map.len() >= CAPACITY {
            map.clear();
        }
        map.insert(id.to_vec(), value);
    }

    /// Removes the id from every class: the halves of a pair come and go together on some tokens.
    fn remove(&mut self, id: &[u8]) {
        self.public.remove(id);
        self.private.remove(id);
        self.secret.remove(id);
    }
}

/// The object handles one session has found.
#[derive(Default)]
pub(super) struct Handles {
    found: ById<ObjectHandle, HANDLES>,
    /// How far in the token's [`Forgotten`] this session has come.
    caught_up: u64,
}

impl Handles {
    /// No handles yet, so nothing to forget of what `forgotten` lists.
    pub(super) fn new(forgotten: &Forgotten) -> Self {
        Self { found: ById::default(), caught_up: forgotten.count.load(Ordering::Acquire) }
    }

    pub(super) fn handle(&self, class: Class, id: &[u8]) -> Option<ObjectHandle> {
        self.found.of(class).get(id).copied()
    }

    pub(super) fn remember(&mut self, class: Class, id: &[u8], handle: ObjectHandle) {
        self.found.insert(class, id, handle);
    }
}

/// The identifiers whose handles are stale, for every session to read before it is used.
///
/// A handle of a destroyed object may be given to another object, so it must not merely fail: it must not be used.
#[derive(Default)]
pub(super) struct Forgotten {
    /// How many were ever forgotten: read without the lock by every loan.
    count: AtomicU64,
    last: Mutex<VecDeque<Vec<u8>>>,
}

impl Forgotten {
    pub(super) fn add(&self, id: &[u8]) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.len() >= REMEMBERED {
            last.pop_front();
        }
        last.push_back(id.to_vec());
        self.count.fetch_add(1, Ordering::Release);
    }

    /// Every handle is stale: sessions have missed more than is remembered.
    pub(super) fn all(&self) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.clear();
        self.count.fetch_add(1, Ordering::Release);
    }

    /// Removes from `handles` what was forgotten since the last time.
    pub(super) fn apply(&self, handles: &mut Handles) {
        if handles.caught_up == self.count.load(Ordering::Acquire) {
            return;
        }
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let count = self.count.load(Ordering::Acquire);
        match usize::try_from(count.wrapping_sub(handles.caught_up)) {
            Ok(missed) if missed <= last.len() => {
                for id in last.iter().rev().take(missed) {
                    handles.found.remove(id);
                }
            }
            _ => handles.found = ById::default(),
        }
        handles.caught_up = count;
    }
}

/// What is known of a token's objects, whichever session found it.
pub(super) struct Known<T>(RwLock<KnownState<T>>);

/// The facts of keys.
pub(super) type Keys = Known<Arc<Key>>;

/// The handles under which objects were seen. Whether they mean the same in another session, that has to be asked: with some modules
/// they do not.
pub(super) type Sightings = Known<ObjectHandle>;

struct KnownState<T> {
    by_id: ById<T, KEYS>,
    generation: u64,
}

// Derived, it would ask for `T: Default`.
impl<T> Default for Known<T> {
    fn default() -> Self {
        Self(RwLock::new(KnownState { by_id: ById::default(), generation: 0 }))
    }
}

impl<T: Clone> Known<T> {
    pub(super) fn known(&self, class: Class, id: &[u8]) -> Option<T> {
        self.read().by_id.of(class).get(id).cloned()
    }

    /// To be taken before an object is searched or read, and given to [`Self::remember`] afterwards.
    pub(super) fn generation(&self) -> u64 {
        self.read().generation
    }

    /// Remembers `value`, unless something was forgotten since `generation`: it may have been this.
    pub(super) fn remember(&self, generation: u64, class: Class, id: &[u8], value: T) {
        self.remember_all(generation, class, [(id, value)]);
    }

    /// The same for many.
    pub(super) fn remember_all<'i>(
        &self,
        generation: u64,
        class: Class,
        values: impl IntoIterator<Item = (&'i [u8], T)>,
    ) {
        let mut state = self.write();
        if state.generation == generation {
            values.into_iter().for_each(|(id, value)| state.by_id.insert(class, id, value));
        }
    }

    pub(super) fn forget(&self, id: &[u8]) {
        let mut state = self.write();
        state.by_id.remove(id);
        state.generation = state.generation.wrapping_add(1);
    }

    pub(super) fn forget_all(&self) {
        let mut state = self.write();
        state.by_id = ById::default();
        state.generation = state.generation.wrapping_add(1);
    }

    /// The state is whole whenever the lock is free.
    fn read(&self) -> RwLockReadGuard<'_, KnownState<T>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, KnownState<T>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Keys {
    /// Puts `new` in the place of `old`, if that is still what is known.
    pub(super) fn replace(&self, old: &Arc<Key>, new: &Arc<Key>) {
        let mut state = self.write();
        if state.by_id.of(old.class).get(&old.id).is_some_and(|known| Arc::ptr_eq(known, old)) {
            state.by_id.insert(new.class, &new.id, Arc::clone(new));
        }
    }
}

/// The classes of which the token has objects without CKA_ID.
#[derive(Default)]
pub(super) struct Nameless(Mutex<HashSet<Class>>);

impl Nameless {
    pub(super) fn has(&self, class: Class) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(&class)
    }

    /// Notes what a listing has shown; that there are none any more, only one of all of its class tells.
    pub(super) fn note(&self, filter: &Filter<'_>, listed: &[Listed]) {
        let mut classes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(filter, Filter { id: None, label: None, key_type: None, .. }) {
            classes.retain(|class| filter.class.is_some_and(|of| of != *class));
        }
        classes.extend(listed.iter().filter(|object| object.id.is_empty()).map(|object| object.class));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pkcs11::key::KeyKind;
    use cryptoki::object::KeyType;

    fn key(class: Class, id: &[u8]) -> Arc<Key> {
        Arc::new(Key::new(class, id, KeyKind::Other(KeyType::AES), None))
    }

    fn remember(keys: &Keys, key: &Arc<Key>) {
        keys.remember(keys.generation(), key.class, &key.id, Arc::clone(key));
    }

    #[test]
    fn both_halves_of_a_pair_are_forgotten_together() {
        let keys = Keys::default();
        for class in [Class::PublicKey, Class::PrivateKey] {
            remember(&keys, &key(class, b"a"));
            remember(&keys, &key(class, b"b"));
        }
        keys.forget(b"a");
        for class in [Class::PublicKey, Class::PrivateKey] {
            assert_eq!(keys.known(class, b"a"), None);
            assert_eq!(keys.known(class, b"b"), Some(key(class, b"b")));
        }
    }

    #[test]
    fn facts_read_before_something_was_forgotten_are_not_remembered() {
        let keys = Keys::default();
        for forget in [|keys: &Keys| keys.forget(b"a"), Keys::forget_all] {
            let generation = keys.generation();
            forget(&keys);
            keys.remember(generation, Class::PublicKey, b"a", key(Class::PublicKey, b"a"));
            assert_eq!(keys.known(Class::PublicKey, b"a"), None);
        }
    }

    #[test]
    fn what_is_learnt_of_a_key_that_was_forgotten_is_not_remembered() {
        let keys = Keys::default();
        let old = key(Class::PrivateKey, b"a");
        let new = Arc::new(Key { kind: KeyKind::Rsa { bits: 2048 }, ..Key::clone(&old) });
        keys.replace(&old, &new);
        assert_eq!(keys.known(Class::PrivateKey, b"a"), None);
        remember(&keys, &old);
        keys.replace(&old, &new);
        assert_eq!(keys.known(Class::PrivateKey, b"a"), Some(Arc::clone(&new)));
        keys.replace(&old, &old);
        assert_eq!(keys.known(Class::PrivateKey, b"a"), Some(new));
    }

    #[test]
    fn only_a_listing_of_its_whole_class_tells_that_no_object_is_without_an_id() {
        let nameless = Nameless::default();
        let listed = |class, id: &[u8]| Listed { class, id: id.to_vec(), label: None, key_type: None };
        let of = |class| Filter { class, ..Filter::default() };
        nameless.note(&of(None), &[listed(Class::PublicKey, b""), listed(Class::PrivateKey, b"")]);
        nameless.note(&of(Some(Class::PublicKey)), &[listed(Class::PublicKey, b"a")]);
        assert!(!nameless.has(Class::PublicKey) && nameless.has(Class::PrivateKey));
        nameless.note(&Filter { id: Some(b"a"), ..of(Some(Class::PrivateKey)) }, &[]);
        assert!(nameless.has(Class::PrivateKey));
        nameless.note(&of(None), &[]);
        assert!(!nameless.has(Class::PrivateKey));
    }

    #[test]
    fn everything_is_forgotten_at_once() {
        let keys = Keys::default();
        for class in Class::ALL {
            remember(&keys, &key(class, b"a"));
        }
        keys.forget_all();
        assert!(Class::ALL.iter().all(|class| keys.known(*class, b"a").is_none()));
    }

    #[test]
    fn a_full_cache_starts_again_empty() {
        let mut cache = ById::<_, 3>::default();
        for number in 0..4_u8 {
            cache.insert(Class::PublicKey, &[number], number);
        }
        assert_eq!(cache.public, HashMap::from([(vec![3], 3)]));
    }

    /// Handles cannot be made without a module, so identifiers stand for them.
    fn missed(count: usize) -> (bool, bool) {
        let forgotten = Forgotten::default();
        let mut handles = Handles::new(&forgotten);
        for number in 0..count {
            forgotten.add(&number.to_be_bytes());
        }
        forgotten.apply(&mut handles);
        (handles.caught_up == count as u64, forgotten.last.lock().unwrap().len() <= REMEMBERED)
    }

    #[test]
    fn a_session_catches_up_with_what_was_forgotten() {
        for count in [0, 1, REMEMBERED, REMEMBERED + 1, 3 * REMEMBERED] {
            assert_eq!(missed(count), (true, true));
        }
    }
}

//! What the module remembers: its objects and the application's sessions.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use cryptoki_sys::*;

use crate::keys::{self, Attributes};
use crate::script::Script;

/// Key pairs that were generated and are kept.
const PAIRS: usize = 8;

/// A key.
pub struct Object {
    pub attributes: Attributes,
    canned: bool,
}

/// A session of the application.
#[derive(Default)]
pub struct Session {
    /// Handles that a search has still to hand out.
    pub found: Option<VecDeque<CK_OBJECT_HANDLE>>,
    /// The signature that was begun, and its worth.
    pub signature: Option<Vec<u8>>,
    /// The verification that was begun, and what would be right.
    pub verifies: Option<Vec<u8>>,
}

#[derive(Default)]
pub struct Store {
    pub initialized: bool,
    pub logged_in: bool,
    pub script: Script,
    pub sessions: BTreeMap<CK_SESSION_HANDLE, Session>,
    objects: BTreeMap<CK_OBJECT_HANDLE, Object>,
    generated: VecDeque<(CK_OBJECT_HANDLE, CK_OBJECT_HANDLE)>,
    /// The last handle that was given.
    last: CK_ULONG,
    random: u64,
}

/// The store of the process.
pub fn lock() -> MutexGuard<'static, Store> {
    static STORE: LazyLock<Mutex<Store>> = LazyLock::new(Mutex::default);
    STORE.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Store {
    /// A store as new.
    pub fn start() -> Store {
        let mut store = Store { initialized: true, ..Store::default() };
        for attributes in keys::canned() {
            store.add(attributes, true);
        }
        store
    }

    pub fn session(&mut self, handle: CK_SESSION_HANDLE) -> Result<&mut Session, CK_RV> {
        if !self.initialized {
            return Err(CKR_CRYPTOKI_NOT_INITIALIZED);
        }
        self.sessions.get_mut(&handle).ok_or(CKR_SESSION_HANDLE_INVALID)
    }

    pub fn object(&mut self, handle: CK_OBJECT_HANDLE) -> Result<&mut Object, CK_RV> {
        self.objects.get_mut(&handle).ok_or(CKR_OBJECT_HANDLE_INVALID)
    }

    pub fn open(&mut self) -> CK_SESSION_HANDLE {
        let handle = self.handle();
        self.sessions.insert(handle, Session::default());
        handle
    }

    /// The objects with all these attributes.
    pub fn find(&self, template: &[(CK_ATTRIBUTE_TYPE, Vec<u8>)]) -> VecDeque<CK_OBJECT_HANDLE> {
        let matches = |object: &Object| {
            let shown = self.logged_in || object.attributes.get(&CKA_PRIVATE).is_none_or(|it| it == &[CK_FALSE]);
            shown && template.iter().all(|(kind, value)| object.attributes.get(kind) == Some(value))
        };
        self.objects.iter().filter(|(_, object)| matches(object)).map(|(handle, _)| *handle).collect()
    }

    pub fn destroy(&mut self, handle: CK_OBJECT_HANDLE) -> Result<(), CK_RV> {
        let object = self.objects.remove(&handle).ok_or(CKR_OBJECT_HANDLE_INVALID)?;
        if object.canned {
            self.add(object.attributes, true);
        }
        Ok(())
    }

    pub fn generate(
        &mut self,
        mechanism: CK_MECHANISM_TYPE,
        public: Vec<(CK_ATTRIBUTE_TYPE, Vec<u8>)>,
        private: Vec<(CK_ATTRIBUTE_TYPE, Vec<u8>)>,
    ) -> Result<(CK_OBJECT_HANDLE, CK_OBJECT_HANDLE), CK_RV> {
        let (public, private) = keys::generate(mechanism, public, private, u64::from(self.last as u32) + 1000)?;
        let made = (self.add(public, false), self.add(private, false));
        self.generated.push_back(made);
        if self.generated.len() > PAIRS {
            if let Some((public, private)) = self.generated.pop_front() {
                // Destroyed before, perhaps.
                let _ = (self.destroy(public), self.destroy(private));
            }
        }
        Ok(made)
    }

    pub fn random(&mut self, len: usize) -> Vec<u8> {
        self.random += 1;
        keys::pattern(len, self.random)
    }

    fn add(&mut self, attributes: Attributes, canned: bool) -> CK_OBJECT_HANDLE {
        let handle = self.handle();
        self.objects.insert(handle, Object { attributes, canned });
        handle
    }

    fn handle(&mut self) -> CK_ULONG {
        self.last += 1;
        self.last
    }
}

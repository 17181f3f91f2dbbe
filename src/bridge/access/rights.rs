//! What a client may do: operations, and keys whose names begin in a certain way.
#![forbid(unsafe_code)]

use crate::kmip::{Failure, Operation, Outcome, ResultReason};

/// The rights of a client. The default is all of them, which is what who knows a token's PIN has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rights {
    /// The operations; all where there is no list. Query and Discover Versions are everybody's.
    pub operations: Option<Vec<Operation>>,
    /// What the names of its keys begin with. Others are not there, as far as the client can tell.
    pub key_prefix: Option<String>,
}

impl Rights {
    /// The operation of that name, as the configuration writes it: `create-key-pair`.
    pub fn operation(word: &str) -> Option<Operation> {
        let spelt = |name: &str| name.to_lowercase().replace(' ', "-");
        Operation::NAMED.iter().find(|(_, name)| spelt(name) == word).map(|(operation, _)| *operation)
    }

    /// Whether the client may ask for the operation.
    pub(crate) fn allow(&self, operation: Operation) -> bool {
        matches!(operation, Operation::QUERY | Operation::DISCOVER_VERSIONS)
            || self.operations.as_ref().is_none_or(|allowed| allowed.contains(&operation))
    }

    /// # Errors
    /// Permission Denied.
    pub(crate) fn demand(&self, operation: Operation) -> Outcome<()> {
        if self.allow(operation) {
            return Ok(());
        }
        Err(Failure::new(ResultReason::PERMISSION_DENIED, format!("{operation} is not allowed to this client")))
    }

    /// Whether a key with this name is the client's.
    pub(crate) fn cover(&self, name: Option<&str>) -> bool {
        self.key_prefix.as_ref().is_none_or(|prefix| name.is_some_and(|name| name.starts_with(prefix.as_str())))
    }

    /// Judges a name that a key is to get.
    ///
    /// # Errors
    /// Permission Denied: the client would lose sight of its key, or take another's name.
    pub(crate) fn demand_name(&self, name: Option<&str>) -> Outcome<()> {
        match &self.key_prefix {
            Some(prefix) if !self.cover(name) => {
                let message = format!("the names of this client's keys have to begin with '{prefix}'");
                Err(Failure::new(ResultReason::PERMISSION_DENIED, message))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allows_all_where_nothing_is_said_and_else_only_what_is() {
        assert!(Rights::default().allow(Operation::DESTROY) && Rights::default().cover(None));
        let rights = Rights { operations: Some(vec![Operation::SIGN]), key_prefix: Some("a-".to_owned()) };
        assert!(rights.allow(Operation::SIGN) && rights.allow(Operation::QUERY));
        assert_eq!(rights.demand(Operation::DESTROY).unwrap_err().reason, ResultReason::PERMISSION_DENIED);
        assert!(rights.cover(Some("a-key")) && !rights.cover(Some("b-key")) && !rights.cover(None));
        assert!(rights.demand_name(Some("b")).is_err() && rights.demand_name(None).is_err());
    }

    #[test]
    fn knows_operations_by_their_names() {
        assert_eq!(Rights::operation("create-key-pair"), Some(Operation::CREATE_KEY_PAIR));
        assert_eq!(Rights::operation("rng-retrieve"), Some(Operation::RNG_RETRIEVE));
        assert_eq!(Rights::operation("Sign"), None);
    }
}

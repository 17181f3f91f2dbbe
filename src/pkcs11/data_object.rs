//! Data objects, by their label. Modules hang and crash on them, so nothing here is used uninvited.
#![forbid(unsafe_code)]

use std::cell::Cell;

use cryptoki::object::{Attribute, AttributeType, ObjectClass, ObjectHandle};
use cryptoki::session::Session;

use super::error::Error;
use super::object;
use super::token::Token;

/// CKA_APPLICATION of the objects made here.
const APPLICATION: &[u8] = env!("CARGO_PKG_NAME").as_bytes();

impl Token {
    /// Makes a data object on the token; a `private` one is seen under a login only.
    ///
    /// # Errors
    /// A failure of the module.
    pub fn create_data_object(&self, label: &str, private: bool, value: &[u8]) -> Result<(), Error> {
        let _change = self.change()?;
        // A second one would stand beside the first, should that be there after all.
        let begun = Cell::new(false);
        self.run_until(&begun, |seat| {
            let _alone = self.alone();
            let mut template = description(label);
            template.extend([
                Attribute::Token(true),
                Attribute::Private(private),
                Attribute::Application(APPLICATION.to_vec()),
                Attribute::Value(value.to_vec()),
            ]);
            begun.set(true);
            seat.session.create_object(&template)?;
            Ok(())
        })
    }

    /// The values of the data objects with this label.
    ///
    /// # Errors
    /// A failure of the module.
    pub fn data_objects(&self, label: &str) -> Result<Vec<Vec<u8>>, Error> {
        self.run(|seat| {
            let found = find(&seat.session, label)?;
            let value = |handle| {
                let attributes = object::read(&seat.session, handle, &[AttributeType::Value])?;
                Ok(attributes.into_iter().find_map(|attribute| match attribute {
                    Attribute::Value(value) => Some(value),
                    _ => None,
                }))
            };
            found.into_iter().map(value).filter_map(Result::transpose).collect()
        })
    }

    /// Gives the data objects with this label another value.
    ///
    /// # Errors
    /// A failure of the module; SoftHSM changes none.
    pub fn change_data_objects(&self, label: &str, value: &[u8]) -> Result<(), Error> {
        let _change = self.change()?;
        self.run(|seat| {
            let _alone = self.alone();
            for handle in find(&seat.session, label)? {
                seat.session.update_attributes(handle, &[Attribute::Value(value.to_vec())])?;
            }
            Ok(())
        })
    }

    /// Destroys the data objects with this label, and says how many they were.
    ///
    /// # Errors
    /// A failure of the module.
    pub fn destroy_data_objects(&self, label: &str) -> Result<usize, Error> {
        let _change = self.change()?;
        self.run(|seat| {
            let _alone = self.alone();
            let found = find(&seat.session, label)?;
            found.iter().try_for_each(|handle| seat.session.destroy_object(*handle))?;
            Ok(found.len())
        })
    }
}

fn description(label: &str) -> Vec<Attribute> {
    vec![Attribute::Class(ObjectClass::DATA), Attribute::Label(label.as_bytes().to_vec())]
}

fn find(session: &Session, label: &str) -> Result<Vec<ObjectHandle>, Error> {
    Ok(session.find_objects(&description(label))?)
}

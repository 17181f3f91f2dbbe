//! Objects of a token: finding one by class and CKA_ID, listing many, reading what they show.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectHandle};
use cryptoki::session::Session;

use super::curve::Curve;
use super::error::Error;
use super::fault::Fault;
use super::key::{Class, Filter, Key, KeyKind, Listed, PublicKey, bit_len};
use super::watch;

/// Handles asked for at once while listing, where a remote module pays a round trip for each batch.
const BATCH: NonZeroUsize = NonZeroUsize::MIN.saturating_add(255);

/// Modules may give fewer handles than they are asked for, which the binding takes for the end: only of one at a time it asks until there
/// are no more.
const ONE: NonZeroUsize = NonZeroUsize::MIN;

/// The most handles that a token has given at once, all that there were: where it gives no more than that, none are missing.
#[derive(Default)]
pub(super) struct AtOnce(AtomicUsize);

/// Every object that fits.
fn every(session: &Session, template: &[Attribute], at_once: &AtOnce) -> Result<Vec<ObjectHandle>, Error> {
    let search = |batch| -> Result<Vec<ObjectHandle>, Error> {
        Ok(session.iter_objects_with_cache_size(template, batch)?.collect::<Result<_, _>>()?)
    };
    let found = search(BATCH)?;
    let given = found.len().min(BATCH.get());
    if given > at_once.0.load(Ordering::Relaxed) {
        if given < BATCH.get() {
            let singly = search(ONE)?;
            if singly.len() > found.len() {
                return Ok(singly);
            }
        }
        at_once.0.fetch_max(given, Ordering::Relaxed);
    }
    Ok(found)
}

/// The one object of this class with this CKA_ID. The class is always part of a search: some tokens otherwise list mechanism
/// objects too.
pub(super) fn find(session: &Session, class: Class, id: &[u8]) -> Result<ObjectHandle, Error> {
    let template = [Attribute::Class(class.object_class()), Attribute::Id(id.to_vec())];
    let mut found = session.iter_objects_with_cache_size(&template, ONE)?;
    match (found.next().transpose()?, found.next().transpose()?) {
        (None, _) => Err(Error::NotFound { class }),
        (Some(handle), None) => Ok(handle),
        _ => Err(Error::Ambiguous { class }),
    }
}

/// Whether the handle means an object of this class and CKA_ID in this session.
pub(super) fn is(session: &Session, object: ObjectHandle, class: Class, id: &[u8]) -> Result<bool, Error> {
    match session.get_attributes(object, &[AttributeType::Class, AttributeType::Id]).map_err(Error::from) {
        Ok(attributes) => {
            let expected = [Attribute::Class(class.object_class()), Attribute::Id(id.to_vec())];
            Ok(expected.iter().all(|attribute| attributes.contains(attribute)))
        }
        Err(error) if error.is_loss() => Err(error),
        Err(_) => Ok(false),
    }
}

/// Every object of the class by its CKA_ID, `None` for one that several share. Without an answer if that takes longer than `longest`.
pub(super) fn all(
    session: &Session,
    class: Class,
    longest: Duration,
    at_once: &AtOnce,
) -> Result<Option<Everything>, Error> {
    let begun = Instant::now();
    let template = [Attribute::Class(class.object_class())];
    let mut found = Everything::new();
    for handle in every(session, &template, at_once)? {
        if begun.elapsed() > longest {
            return Ok(None);
        }
        let attributes = session.get_attributes(handle, &[AttributeType::Id]).map_err(Error::from);
        watch::answered();
        match attributes {
            Ok(attributes) => {
                if let Some(Attribute::Id(id)) = attributes.into_iter().next() {
                    found.entry(id).and_modify(|handle| *handle = None).or_insert(Some(handle));
                }
            }
            Err(error) if error.is_loss() => return Err(error),
            // An odd one, or destroyed since: it is not found here.
            Err(_) => {}
        }
    }
    Ok(Some(found))
}

/// Objects of a class by their CKA_ID.
pub(super) type Everything = HashMap<Vec<u8>, Option<ObjectHandle>>;

/// The time that a busy HSM gets before it is asked for attributes again.
const PAUSE: Duration = Duration::from_millis(50);

/// Reads attributes together, or one by one if the token refuses them together because of one. What it does not show is
/// left out.
pub(super) fn read(session: &Session, object: ObjectHandle, wanted: &[AttributeType]) -> Result<Vec<Attribute>, Error> {
    let refusal = match ask(session, object, wanted, PAUSE) {
        Ok(attributes) => return Ok(attributes),
        Err(error) if wanted.len() < 2 || error.is_stale_handle() || error.is_loss() => return Err(error),
        Err(error) => error,
    };
    let mut read = None;
    for attribute in wanted {
        match ask(session, object, &[*attribute], Duration::ZERO) {
            Ok(found) => read.get_or_insert_with(Vec::new).extend(found),
            Err(error) if error.is_stale_handle() || error.is_loss() => return Err(error),
            Err(error) => log::debug!("{attribute} is left out: {error}"),
        }
    }
    // A token that shows nothing at all is failing, not reticent.
    read.ok_or(refusal)
}

/// Asks for attributes, and once more where the answer may be no more than a busy HSM's: AWS CloudHSM says DEVICE_ERROR then. An
/// attribute that were missing for that would be taken for one that the token does not show.
fn ask(
    session: &Session,
    object: ObjectHandle,
    wanted: &[AttributeType],
    pause: Duration,
) -> Result<Vec<Attribute>, Error> {
    let attempt = || session.get_attributes(object, wanted).map_err(Error::from);
    match attempt() {
        Err(error) if error.fault() == Fault::Module && !error.is_loss() => {
            thread::sleep(pause);
            attempt()
        }
        result => result,
    }
}

/// Reads an attribute that a token may as well refuse to show.
fn read_optional(session: &Session, object: ObjectHandle, wanted: AttributeType) -> Result<Option<Attribute>, Error> {
    match read(session, object, &[wanted]) {
        Ok(attributes) => Ok(attributes.into_iter().next()),
        Err(error) if error.is_stale_handle() || error.is_loss() => Err(error),
        Err(error) => {
            log::debug!("{wanted} is left out: {error}");
            Ok(None)
        }
    }
}

/// The label of an object, `None` if it is empty, or the token shows none.
pub(super) fn label(session: &Session, object: ObjectHandle) -> Result<Option<String>, Error> {
    Ok(match read_optional(session, object, AttributeType::Label)? {
        Some(Attribute::Label(bytes)) => text(&bytes),
        _ => None,
    })
}

/// The CKA_ID of an object; empty if it has none.
pub(super) fn id(session: &Session, object: ObjectHandle) -> Result<Vec<u8>, Error> {
    let attributes = read(session, object, &[AttributeType::Id])?;
    let id = attributes.into_iter().find_map(|attribute| match attribute {
        Attribute::Id(id) => Some(id),
        _ => None,
    });
    Ok(id.unwrap_or_default())
}

fn text(bytes: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(bytes);
    // Fields of fixed size show through in the labels of some tokens.
    let text = text.trim_end_matches('\0');
    (!text.is_empty()).then(|| text.to_string())
}

/// The facts of the key `object`, that was found as `id`.
///
/// First what every key of the class has, then what its type has: a token asked for an attribute that the type does not
/// have may refuse the others too, or leave them unset.
pub(super) fn facts(session: &Session, object: ObjectHandle, class: Class, id: &[u8]) -> Result<Key, Error> {
    let attributes = read(session, object, of_every(class))?;
    let key_type = attributes.iter().find_map(|attribute| match attribute {
        Attribute::KeyType(key_type) => Some(*key_type),
        _ => None,
    });
    let (kind, public) = match key_type {
        None => return Err(Error::Unsupported("a key whose CKA_KEY_TYPE the token does not show")),
        Some(other) if class == Class::SecretKey => (KeyKind::Other(other), None),
        Some(KeyType::RSA) => rsa(session, object)?,
        Some(curve @ (KeyType::EC | KeyType::EC_EDWARDS)) => on_curve(session, object, class, curve)?,
        Some(other) => (KeyKind::Other(other), None),
    };
    let mut key = Key::new(class, id, kind, public);
    for attribute in attributes {
        match attribute {
            Attribute::Id(found) => key.id = found,
            Attribute::Sign(may) => key.usage.sign = may,
            Attribute::Verify(may) => key.usage.verify = may,
            Attribute::Encrypt(may) => key.usage.encrypt = may,
            Attribute::Decrypt(may) => key.usage.decrypt = may,
            Attribute::Wrap(may) => key.usage.wrap = may,
            Attribute::Unwrap(may) => key.usage.unwrap = may,
            Attribute::Derive(may) => key.usage.derive = may,
            Attribute::Sensitive(is) => key.sensitive = Some(is),
            Attribute::Extractable(is) => key.extractable = Some(is),
            Attribute::AlwaysSensitive(is) => key.always_sensitive = Some(is),
            Attribute::NeverExtractable(is) => key.never_extractable = Some(is),
            Attribute::AlwaysAuthenticate(is) => key.always_authenticate = is,
            _ => {}
        }
    }
    Ok(key)
}

fn of_every(class: Class) -> &'static [AttributeType] {
    use AttributeType as A;
    match class {
        Class::PublicKey => &[A::KeyType, A::Id, A::Verify, A::Encrypt, A::Wrap, A::Derive],
        Class::PrivateKey => &[
            A::KeyType,
            A::Id,
            A::Sign,
            A::Decrypt,
            A::Unwrap,
            A::Derive,
            A::Sensitive,
            A::Extractable,
            A::AlwaysSensitive,
            A::NeverExtractable,
            A::AlwaysAuthenticate,
        ],
        Class::SecretKey => &[
            A::KeyType,
            A::Id,
            A::Sign,
            A::Verify,
            A::Encrypt,
            A::Decrypt,
            A::Wrap,
            A::Unwrap,
            A::Derive,
            A::Sensitive,
            A::Extractable,
            A::AlwaysSensitive,
            A::NeverExtractable,
        ],
    }
}

fn rsa(session: &Session, object: ObjectHandle) -> Result<(KeyKind, Option<PublicKey>), Error> {
    let (mut modulus, mut exponent) = (Vec::new(), Vec::new());
    for attribute in read(session, object, &[AttributeType::Modulus, AttributeType::PublicExponent])? {
        match attribute {
            Attribute::Modulus(found) => modulus = found,
            Attribute::PublicExponent(found) => exponent = found,
            _ => {}
        }
    }
    let public = match PublicKey::rsa(&modulus, &exponent) {
        Some(public) => Some(public),
        None => info(session, object)?.filter(|public| matches!(public, PublicKey::Rsa { .. })),
    };
    let bits = match &public {
        Some(PublicKey::Rsa { modulus, .. }) => bit_len(modulus),
        _ => bit_len(&modulus),
    };
    Ok((KeyKind::Rsa { bits }, public))
}

fn on_curve(
    session: &Session,
    object: ObjectHandle,
    class: Class,
    key_type: KeyType,
) -> Result<(KeyKind, Option<PublicKey>), Error> {
    let mut curve = None;
    let mut point = None;
    // Only some tokens show a private key's point, so there it is asked for by itself.
    let wanted: &[AttributeType] = match class {
        Class::PublicKey => &[AttributeType::EcParams, AttributeType::EcPoint],
        _ => &[AttributeType::EcParams],
    };
    let mut attributes = read(session, object, wanted)?;
    if class != Class::PublicKey {
        attributes.extend(read_optional(session, object, AttributeType::EcPoint)?);
    }
    for attribute in attributes {
        match attribute {
            Attribute::EcParams(params) => curve = Curve::from_params(&params),
            Attribute::EcPoint(found) => point = Some(found),
            _ => {}
        }
    }
    let Some(curve) = curve else { return Ok((KeyKind::Other(key_type), None)) };
    let public = match point.and_then(|point| curve.point(&point)) {
        Some(point) => Some(PublicKey::Ec { curve, point }),
        None => info(session, object)?
            .filter(|public| matches!(public, PublicKey::Ec { curve: other, .. } if *other == curve)),
    };
    Ok((KeyKind::Ec(curve), public))
}

/// The public key in CKA_PUBLIC_KEY_INFO, which many tokens leave empty.
fn info(session: &Session, object: ObjectHandle) -> Result<Option<PublicKey>, Error> {
    Ok(match read_optional(session, object, AttributeType::PublicKeyInfo)? {
        Some(Attribute::PublicKeyInfo(info)) => PublicKey::from_info(&info),
        _ => None,
    })
}

/// The objects that `filter` lets through. One that cannot be read is left out with a warning. If none can, and it is not the
/// objects that are odd but the token that fails, that is an error.
pub(super) fn list(session: &Session, filter: &Filter<'_>, at_once: &AtOnce) -> Result<Vec<Listed>, Error> {
    let mut listed = Vec::new();
    let mut failure = None;
    for class in Class::ALL {
        if filter.class.is_some_and(|wanted| wanted != class) {
            continue;
        }
        let mut template = vec![Attribute::Class(class.object_class())];
        template.extend(filter.id.map(|id| Attribute::Id(id.to_vec())));
        template.extend(filter.label.map(|label| Attribute::Label(label.as_bytes().to_vec())));
        template.extend(filter.key_type.map(Attribute::KeyType));
        for handle in every(session, &template, at_once)? {
            let described = describe(session, handle, class);
            // Thousands of objects take long, and where calls come one at a time nobody else is answered meanwhile.
            watch::answered();
            match described {
                Ok(found) => listed.push(found),
                // Destroyed since it was found.
                Err(error) if error.is_stale_handle() => {}
                Err(error) if error.is_loss() => return Err(error),
                Err(error) => {
                    log::warn!("a {class} object is left out of a list: {error}");
                    failure = Some(error);
                }
            }
        }
    }
    match failure {
        Some(error) if listed.is_empty() && error.fault() != Fault::Request => Err(error),
        _ => Ok(listed),
    }
}

fn describe(session: &Session, object: ObjectHandle, class: Class) -> Result<Listed, Error> {
    let mut found = Listed { class, id: Vec::new(), label: None, key_type: None };
    for attribute in read(session, object, &[AttributeType::Id, AttributeType::Label, AttributeType::KeyType])? {
        match attribute {
            Attribute::Id(id) => found.id = id,
            Attribute::Label(label) => found.label = text(&label),
            Attribute::KeyType(key_type) => found.key_type = Some(key_type),
            _ => {}
        }
    }
    Ok(found)
}

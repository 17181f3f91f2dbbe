//! C_GetAttributeValue, with the rules of `[[attribute]]` for what it answers.

use cryptoki_sys::*;

use crate::call::Call;
use crate::real::{self, forward};
use crate::settings::{AttributeRule, Form};
use crate::{handles, objects};

const OCTET_STRING: u8 = 0x04;
const BIT_STRING: u8 = 0x03;

/// C_GetAttributeValue.
///
/// # Safety
///
/// The arguments are an application's, as the standard asks.
pub unsafe fn get(
    call: &Call,
    session: CK_SESSION_HANDLE,
    object: CK_OBJECT_HANDLE,
    template: *mut CK_ATTRIBUTE,
    count: CK_ULONG,
) -> CK_RV {
    let object = handles::real(call, object);
    if template.is_null() || call.control.settings.attribute.is_empty() {
        return forward!(call.real, C_GetAttributeValue, session, object, template, count);
    }
    // SAFETY: the application's template.
    let asked = unsafe { std::slice::from_raw_parts_mut(template, count as usize) };
    let rules: Vec<Option<&AttributeRule>> =
        asked.iter().map(|attribute| rule(call, session, object, attribute.type_)).collect();
    let whole = rules.iter().flatten().find(|rule| rule.whole).and_then(|rule| rule.rv);
    if let Some(rv) = whole {
        return rv.0;
    }

    let mut plain: Vec<CK_ATTRIBUTE> = Vec::new();
    plain.extend(asked.iter().zip(&rules).filter(|(_, rule)| rule.is_none()).map(|(attribute, _)| *attribute));
    let mut rv = CKR_OK;
    if !plain.is_empty() || asked.is_empty() {
        rv = forward!(call.real, C_GetAttributeValue, session, object, plain.as_mut_ptr(), plain.len() as CK_ULONG);
    }
    let mut plain = plain.into_iter();
    for (attribute, rule) in asked.iter_mut().zip(rules) {
        let answer = match rule {
            None => plain.next().map_or(CKR_OK, |answered| {
                attribute.ulValueLen = answered.ulValueLen;
                CKR_OK
            }),
            Some(rule) => {
                let value = value(call, session, object, attribute.type_, rule);
                // SAFETY: the application's attribute.
                unsafe { answer(attribute, value) }
            }
        };
        rv = if rv == CKR_OK { answer } else { rv };
    }
    rv
}

/// The rule for an attribute of this object, if there is one.
fn rule(
    call: &Call,
    session: CK_SESSION_HANDLE,
    object: CK_OBJECT_HANDLE,
    kind: CK_ATTRIBUTE_TYPE,
) -> Option<&AttributeRule> {
    let has = |kind, wanted| real::ulong_attribute(call.real, session, object, kind) == Some(wanted);
    call.control.settings.attribute.iter().find(|rule| {
        rule.attributes.iter().any(|attribute| attribute.0 == kind)
            && rule.class.is_none_or(|class| has(CKA_CLASS, class.0))
            && rule.key_type.is_none_or(|key_type| has(CKA_KEY_TYPE, key_type.0))
    })
}

/// What the rule makes of the attribute.
fn value(
    call: &Call,
    session: CK_SESSION_HANDLE,
    object: CK_OBJECT_HANDLE,
    kind: CK_ATTRIBUTE_TYPE,
    rule: &AttributeRule,
) -> Result<Vec<u8>, CK_RV> {
    if let Some(rv) = rule.rv {
        return Err(rv.0);
    }
    if let Some(value) = &rule.value {
        return Ok(value.bytes());
    }
    let mut value = real::attribute(call.real, session, object, kind);
    if value.is_none() && rule.partner {
        let class = match real::ulong_attribute(call.real, session, object, CKA_CLASS) {
            Some(CKO_PRIVATE_KEY) => CKO_PUBLIC_KEY,
            _ => CKO_PRIVATE_KEY,
        };
        let partners = objects::partners(call, session, object, class);
        value = partners.iter().find_map(|partner| real::attribute(call.real, session, *partner, kind));
    }
    let value = value.ok_or(CKR_ATTRIBUTE_TYPE_INVALID)?;
    Ok(rule.form.map_or_else(|| value.clone(), |form| reform(&value, form)))
}

/// Fills in one attribute in the way of the standard.
///
/// # Safety
///
/// The attribute's pointer is null or has room for as many bytes as it says.
unsafe fn answer(attribute: &mut CK_ATTRIBUTE, value: Result<Vec<u8>, CK_RV>) -> CK_RV {
    let room = std::mem::replace(&mut attribute.ulValueLen, CK_UNAVAILABLE_INFORMATION);
    let value = match value {
        Ok(value) => value,
        Err(rv) => return rv,
    };
    if !attribute.pValue.is_null() {
        if room < value.len() as CK_ULONG {
            return CKR_BUFFER_TOO_SMALL;
        }
        // SAFETY: there is room for `room` bytes, which are enough.
        unsafe { std::slice::from_raw_parts_mut(attribute.pValue.cast::<u8>(), value.len()) }.copy_from_slice(&value);
    }
    attribute.ulValueLen = value.len() as CK_ULONG;
    CKR_OK
}

fn reform(value: &[u8], form: Form) -> Vec<u8> {
    match form {
        Form::Raw => inside(value).to_vec(),
        Form::BitString => {
            let inside = inside(value);
            let mut whole = vec![BIT_STRING];
            match u8::try_from(inside.len() + 1) {
                Ok(len) if len < 0x80 => whole.push(len),
                Ok(len) => whole.extend([0x81, len]),
                Err(_) => return value.to_vec(),
            }
            whole.push(0);
            whole.extend(inside);
            whole
        }
        Form::LeadingZero => [&[0], value].concat(),
    }
}

/// The content of an OCTET STRING, or the value itself if it is none. Only lengths up to 255 occur in points.
fn inside(value: &[u8]) -> &[u8] {
    match value {
        [OCTET_STRING, 0x81, len, rest @ ..] if rest.len() == usize::from(*len) => rest,
        [OCTET_STRING, len, rest @ ..] if rest.len() == usize::from(*len) => rest,
        _ => value,
    }
}

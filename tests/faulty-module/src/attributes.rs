//! C_GetAttributeValue, with the rules of `[[attribute]]` for what it answers.

use cryptoki_sys::*;

use crate::call::Call;
use crate::real::{self, forward};
use crate::settings::{AttributeRule, Form};
use crate::{extra, handles, objects, public_key};

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
    let is_extra = extra::attribute(call, object, CKA_CLASS).is_some();
    if template.is_null() || call.control.settings.attribute.is_empty() && !is_extra {
        return forward!(call.real, C_GetAttributeValue, session, object, template, count);
    }
    // SAFETY: the application's template.
    let asked = unsafe { std::slice::from_raw_parts_mut(template, count as usize) };
    if is_extra {
        let of_one = |attribute: &mut CK_ATTRIBUTE| {
            let value = extra::attribute(call, object, attribute.type_).unwrap_or(Err(CKR_OBJECT_HANDLE_INVALID));
            // SAFETY: the application's attribute.
            unsafe { answer(attribute, value) }
        };
        return asked.iter_mut().map(of_one).fold(CKR_OK, |rv, one| if rv == CKR_OK { one } else { rv });
    }
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
    let own = |kind| real::attribute(call.real, session, object, kind);
    let partners = || {
        let class = match real::ulong_attribute(call.real, session, object, CKA_CLASS) {
            Some(CKO_PRIVATE_KEY) => CKO_PUBLIC_KEY,
            _ => CKO_PRIVATE_KEY,
        };
        objects::partners(call, session, object, class)
    };
    let of_either = |kind| {
        let of_partner = || partners().iter().find_map(|partner| real::attribute(call.real, session, *partner, kind));
        own(kind).or_else(of_partner)
    };
    let value = match rule.form {
        Some(Form::Info) => public_key::info(of_either),
        _ if rule.partner => of_either(kind),
        _ => own(kind),
    };
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
        Form::Raw => public_key::inside(value).to_vec(),
        Form::BitString => public_key::bits(public_key::inside(value)),
        Form::LeadingZero => [&[0], value].concat(),
        Form::Info => value.to_vec(),
    }
}

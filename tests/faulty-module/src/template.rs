//! Templates, and the rules of `[[template]]` for what they may hold.

use std::ptr;

use cryptoki_sys::*;

use crate::abi::Function::{self, *};
use crate::call::Call;
use crate::events;
use crate::settings::TemplateRule;

/// A template of this module's own, which rules may change.
#[derive(Clone, Default)]
pub struct Template {
    attributes: Vec<(CK_ATTRIBUTE_TYPE, Vec<u8>)>,
    raw: Vec<CK_ATTRIBUTE>,
}

impl Template {
    /// Copies an application's template; `None` if it is not one.
    ///
    /// # Safety
    ///
    /// `attributes` is null or points to `count` attributes, each with a null pointer or as many bytes as it says.
    unsafe fn read(attributes: *const CK_ATTRIBUTE, count: CK_ULONG) -> Option<Template> {
        if attributes.is_null() {
            return (count == 0).then(Template::default);
        }
        // SAFETY: `count` attributes, by the contract of this function.
        let given = unsafe { std::slice::from_raw_parts(attributes, count as usize) };
        let copy = |attribute: &CK_ATTRIBUTE| {
            let value = if attribute.pValue.is_null() {
                Vec::new()
            } else {
                // SAFETY: that many bytes, by the contract of this function.
                unsafe { std::slice::from_raw_parts(attribute.pValue.cast::<u8>(), attribute.ulValueLen as usize) }
                    .to_vec()
            };
            (attribute.type_, value)
        };
        Some(Template { attributes: given.iter().map(copy).collect(), raw: Vec::new() })
    }

    /// An application's template as the rules leave it, for an object of that class or of the one it names itself; the
    /// answer, if it is none or a rule refuses it.
    ///
    /// # Safety
    ///
    /// As for [`Template::read`].
    pub unsafe fn ruled(
        call: &Call,
        attributes: *const CK_ATTRIBUTE,
        count: CK_ULONG,
        class: Option<CK_OBJECT_CLASS>,
    ) -> Result<Template, CK_RV> {
        // SAFETY: by the contract of this function.
        let mut template = unsafe { Template::read(attributes, count) }.ok_or(CKR_ARGUMENTS_BAD)?;
        let class = class.or(template.class());
        template.apply(call, class).map_or(Ok(template), Err)
    }

    pub fn get(&self, kind: CK_ATTRIBUTE_TYPE) -> Option<&[u8]> {
        self.attributes.iter().find(|(other, _)| *other == kind).map(|(_, value)| value.as_slice())
    }

    pub fn set(&mut self, kind: CK_ATTRIBUTE_TYPE, value: Vec<u8>) {
        match self.attributes.iter_mut().find(|(other, _)| *other == kind) {
            Some((_, old)) => *old = value,
            None => self.attributes.push((kind, value)),
        }
    }

    pub fn class(&self) -> Option<CK_OBJECT_CLASS> {
        self.get(CKA_CLASS)?.try_into().ok().map(CK_ULONG::from_ne_bytes)
    }

    /// How many attributes it holds.
    pub fn len(&self) -> usize {
        self.attributes.len()
    }

    /// The template as the real module wants it; good until the template is changed or dropped.
    pub fn raw(&mut self) -> (*mut CK_ATTRIBUTE, CK_ULONG) {
        let raw = |(type_, value): &mut (CK_ATTRIBUTE_TYPE, Vec<u8>)| CK_ATTRIBUTE {
            type_: *type_,
            pValue: if value.is_empty() { ptr::null_mut() } else { value.as_mut_ptr().cast() },
            ulValueLen: value.len() as CK_ULONG,
        };
        self.raw = self.attributes.iter_mut().map(raw).collect();
        (self.raw.as_mut_ptr(), self.raw.len() as CK_ULONG)
    }

    /// Applies the rules for an object of that class; the answer, if one of them refuses.
    fn apply(&mut self, call: &Call, class: Option<CK_OBJECT_CLASS>) -> Option<CK_RV> {
        let rules = call.control.settings.template.iter();
        rules.filter(|rule| concerns(rule, call, class)).find_map(|rule| self.apply_one(rule))
    }

    fn apply_one(&mut self, rule: &TemplateRule) -> Option<CK_RV> {
        let holds = |(kind, value): (&crate::names::Attribute, &crate::names::Value)| {
            self.get(kind.0).is_some_and(|given| given == value.bytes())
        };
        if !rule.with.iter().all(holds) {
            return None;
        }
        let met: Vec<CK_ATTRIBUTE_TYPE> = match (&rule.attribute, &rule.only) {
            (Some(attribute), _) if rule.missing => {
                let missing = self.get(attribute.0).is_none();
                missing.then_some(attribute.0).into_iter().collect()
            }
            (None, _) if rule.duplicate => self.duplicates(),
            (Some(attribute), _) => {
                let value = self.get(attribute.0).filter(|value| is_met(rule, value));
                value.map(|_| attribute.0).into_iter().collect()
            }
            (None, Some(only)) => {
                let kinds = self.attributes.iter().map(|(kind, _)| *kind);
                kinds.filter(|kind| !only.iter().any(|allowed| allowed.0 == *kind)).collect()
            }
            (None, None) => vec![CK_ATTRIBUTE_TYPE::MAX],
        };
        if met.is_empty() {
            return None;
        }
        if rule.abort {
            std::process::abort();
        }
        if rule.jam {
            events::jam();
        }
        if rule.drop {
            self.attributes.retain(|(kind, _)| !met.contains(kind));
        }
        for kind in met {
            match (&rule.set, rule.cut) {
                (Some(value), _) => self.set(kind, value.bytes()),
                (None, Some(len)) => self.cut(kind, len),
                (None, None) => {}
            }
        }
        rule.rv.map(|rv| rv.0)
    }

    /// The attributes that are there more than once.
    fn duplicates(&self) -> Vec<CK_ATTRIBUTE_TYPE> {
        let mut kinds: Vec<CK_ATTRIBUTE_TYPE> = self.attributes.iter().map(|(kind, _)| *kind).collect();
        kinds.sort_unstable();
        kinds.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| pair[0]).collect()
    }

    fn cut(&mut self, kind: CK_ATTRIBUTE_TYPE, len: usize) {
        if let Some((_, value)) = self.attributes.iter_mut().find(|(other, _)| *other == kind) {
            value.truncate(len);
        }
    }
}

/// Whether the rule is for such a call at all.
fn concerns(rule: &TemplateRule, call: &Call, class: Option<CK_OBJECT_CLASS>) -> bool {
    const UNLESS_SAID: &[Function] = &[
        C_CreateObject,
        C_CopyObject,
        C_SetAttributeValue,
        C_GenerateKey,
        C_GenerateKeyPair,
        C_UnwrapKey,
        C_DeriveKey,
    ];
    let for_function = match rule.functions {
        Some(functions) => functions.contains(call.function),
        None => UNLESS_SAID.contains(&call.function),
    };
    for_function
        && rule.class.is_none_or(|wanted| class == Some(wanted.0))
        && (rule.mechanism.is_empty() || rule.mechanism.iter().any(|kind| Some(kind.0) == call.mechanism))
}

fn is_met(rule: &TemplateRule, value: &[u8]) -> bool {
    rule.value.as_ref().is_none_or(|wanted| wanted.bytes() == value)
        && (rule.other_than.is_empty() || !rule.other_than.iter().any(|allowed| allowed.bytes() == value))
        && rule.more_than.is_none_or(|most| number(value).is_some_and(|number| number > most))
        && rule.less_than.is_none_or(|least| number(value).is_some_and(|number| number < least))
        && rule.longer_than.is_none_or(|len| value.len() > len)
        && rule.shorter_than.is_none_or(|len| value.len() < len)
}

/// A CK_ULONG.
fn number(value: &[u8]) -> Option<CK_ULONG> {
    value.try_into().ok().map(CK_ULONG::from_ne_bytes)
}

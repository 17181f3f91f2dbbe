//! What a batch item is about, for the audit trail: told from what the client wrote, so that it can be told of what is refused or
//! never answered too.
#![forbid(unsafe_code)]

use super::super::ident::{self, Identifier};
use super::create_key_pair::printable;
use crate::kmip::{Operation, same_tag, tag};
use crate::ttlv::Item;

/// `operation` with the key that `payload` names, or wants made; where it names none, the ID Placeholder.
pub(in super::super) fn told(operation: Operation, payload: Option<&Item<'_>>, placeholder: Option<&str>) -> String {
    let named = match operation {
        Operation::CREATE_KEY_PAIR => payload.and_then(wanted_name).map(|name| format!(" named '{}'", printable(name))),
        _ => payload.and_then(|payload| key(payload, placeholder)).map(|key| format!(" of {key}")),
    };
    format!("{operation}{}", named.unwrap_or_default())
}

/// What may be an identifier of ours, in the spelling of ours; else as it came, in quotes that it cannot end.
fn key(payload: &Item<'_>, placeholder: Option<&str>) -> Option<String> {
    let text = match same_tag(payload, tag::UNIQUE_IDENTIFIER).next() {
        Some(named) => named.text().ok()?,
        None => placeholder?,
    };
    Some(match Identifier::parse(text) {
        Ok(Identifier { id, class: Some(class) }) => ident::format(class, &id),
        Ok(Identifier { id, class: None }) => ident::bare(&id),
        Err(_) => format!("'{}'", printable(text)),
    })
}

/// The private key's name counts where the halves have two.
fn wanted_name<'a>(payload: &Item<'a>) -> Option<&'a str> {
    let templates =
        [tag::PRIVATE_KEY_TEMPLATE_ATTRIBUTE, tag::COMMON_TEMPLATE_ATTRIBUTE, tag::PUBLIC_KEY_TEMPLATE_ATTRIBUTE];
    let mut attributes = templates
        .into_iter()
        .flat_map(|template| same_tag(payload, template))
        .flat_map(|template| same_tag(&template, tag::ATTRIBUTE));
    let name = attributes.find(|attribute| text_in(attribute, tag::ATTRIBUTE_NAME) == Some("Name"))?;
    text_in(&same_tag(&name, tag::ATTRIBUTE_VALUE).next()?, tag::NAME_VALUE)
}

fn text_in<'a>(item: &Item<'a>, tag: u32) -> Option<&'a str> {
    same_tag(item, tag).next()?.text().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ttlv::{Reader, Writer};

    fn of(operation: Operation, placeholder: Option<&str>, write: impl FnOnce(&mut Writer<'_>)) -> String {
        let mut out = Vec::new();
        Writer::new(&mut out).structure(tag::REQUEST_PAYLOAD, write);
        told(operation, Some(&Reader::message(&out).unwrap()), placeholder)
    }

    fn named(w: &mut Writer<'_>, template: u32, name: &str) {
        w.structure(template, |w| {
            w.structure(tag::ATTRIBUTE, |w| {
                w.text(tag::ATTRIBUTE_NAME, "Name");
                w.structure(tag::ATTRIBUTE_VALUE, |w| w.text(tag::NAME_VALUE, name));
            });
        });
    }

    #[test]
    fn tells_the_identifier_that_is_named_or_else_the_placeholder() {
        let destroy = |text: &str| of(Operation::DESTROY, Some("0B_pub"), |w| w.text(tag::UNIQUE_IDENTIFIER, text));
        assert_eq!(destroy("0a_priv"), "Destroy of 0A_priv");
        assert_eq!(destroy("0a"), "Destroy of 0A");
        assert_eq!(of(Operation::DESTROY, Some("0B_pub"), |_| {}), "Destroy of 0B_pub");
        assert_eq!(of(Operation::DESTROY, None, |_| {}), "Destroy");
        let odd = of(Operation::DESTROY, Some("0B_pub"), |w| {
            w.integer(tag::UNIQUE_IDENTIFIER, 1);
        });
        assert_eq!(odd, "Destroy");
        assert_eq!(told(Operation::DESTROY, None, Some("0B_pub")), "Destroy");
    }

    #[test]
    fn tells_the_name_that_the_private_key_is_to_have() {
        let (private, common, public) =
            (tag::PRIVATE_KEY_TEMPLATE_ATTRIBUTE, tag::COMMON_TEMPLATE_ATTRIBUTE, tag::PUBLIC_KEY_TEMPLATE_ATTRIBUTE);
        let create = |names: &[(u32, &str)]| {
            of(Operation::CREATE_KEY_PAIR, None, |w| {
                names.iter().for_each(|(template, name)| named(w, *template, name))
            })
        };
        assert_eq!(create(&[(common, "both"), (private, "own"), (public, "other")]), "Create Key Pair named 'own'");
        assert_eq!(create(&[(common, "both"), (public, "other")]), "Create Key Pair named 'both'");
        assert_eq!(create(&[(public, "other")]), "Create Key Pair named 'other'");
        assert_eq!(create(&[]), "Create Key Pair");
    }

    #[test]
    fn what_a_client_writes_cannot_pass_for_anything_else_in_the_log() {
        let destroy = |text: &str| of(Operation::DESTROY, None, |w| w.text(tag::UNIQUE_IDENTIFIER, text));
        assert_eq!(destroy("x' on token 'y'\naudit: "), "Destroy of 'x\\' on token \\'y\\'\\naudit: '");
        assert_eq!(destroy(&"x".repeat(5000)), format!("Destroy of '{}'", "x".repeat(64)));
        let create = of(Operation::CREATE_KEY_PAIR, None, |w| named(w, tag::COMMON_TEMPLATE_ATTRIBUTE, "a\r\u{1b}'"));
        assert_eq!(create, "Create Key Pair named 'a\\r\\u{1b}\\''");
    }
}

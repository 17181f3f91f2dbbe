//! TTLV as a tree, encoded and decoded here a second time so that the product's codec is judged by another one.
//!
//! Decoding is strict (KMIP 1.2, section 9.1): lengths, padding of zeros, nothing left over.

use std::fmt;

/// One item.
#[derive(Clone, PartialEq)]
pub struct Node {
    pub tag: u32,
    pub value: Value,
}

/// The value of an item, by its type.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Structure(Vec<Node>),
    Integer(i32),
    LongInteger(i64),
    BigInteger(Vec<u8>),
    Enumeration(u32),
    Boolean(bool),
    TextString(String),
    ByteString(Vec<u8>),
    DateTime(i64),
    Interval(u32),
    /// Sent as it stands, never decoded: for items that break the rules.
    Malformed {
        kind: u8,
        length: u32,
        bytes: Vec<u8>,
    },
}

pub fn structure(tag: u32, children: Vec<Node>) -> Node {
    Node { tag, value: Value::Structure(children) }
}

pub fn integer(tag: u32, value: i32) -> Node {
    Node { tag, value: Value::Integer(value) }
}

pub fn enumeration(tag: u32, value: u32) -> Node {
    Node { tag, value: Value::Enumeration(value) }
}

pub fn boolean(tag: u32, value: bool) -> Node {
    Node { tag, value: Value::Boolean(value) }
}

pub fn text(tag: u32, value: &str) -> Node {
    Node { tag, value: Value::TextString(value.to_string()) }
}

pub fn bytes(tag: u32, value: &[u8]) -> Node {
    Node { tag, value: Value::ByteString(value.to_vec()) }
}

pub fn malformed(tag: u32, kind: u8, length: u32, bytes: &[u8]) -> Node {
    Node { tag, value: Value::Malformed { kind, length, bytes: bytes.to_vec() } }
}

impl Node {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode_into(&mut out);
        out
    }

    fn encode_into(&self, out: &mut Vec<u8>) {
        let (kind, value, length) = match &self.value {
            Value::Structure(children) => {
                let mut body = Vec::new();
                children.iter().for_each(|child| child.encode_into(&mut body));
                (1, body, None)
            }
            Value::Integer(value) => (2, value.to_be_bytes().to_vec(), None),
            Value::LongInteger(value) => (3, value.to_be_bytes().to_vec(), None),
            Value::BigInteger(value) => (4, value.clone(), None),
            Value::Enumeration(value) => (5, value.to_be_bytes().to_vec(), None),
            Value::Boolean(value) => (6, u64::from(*value).to_be_bytes().to_vec(), None),
            Value::TextString(value) => (7, value.as_bytes().to_vec(), None),
            Value::ByteString(value) => (8, value.clone(), None),
            Value::DateTime(value) => (9, value.to_be_bytes().to_vec(), None),
            Value::Interval(value) => (10, value.to_be_bytes().to_vec(), None),
            Value::Malformed { kind, length, bytes } => (*kind, bytes.clone(), Some(*length)),
        };
        out.extend_from_slice(&self.tag.to_be_bytes()[1..]);
        out.push(kind);
        let stated = length.unwrap_or_else(|| u32::try_from(value.len()).expect("short values"));
        out.extend_from_slice(&stated.to_be_bytes());
        out.extend_from_slice(&value);
        if length.is_none() {
            out.resize(out.len().next_multiple_of(8), 0);
        }
    }

    /// Decodes exactly one item; an error says what is wrong with the bytes.
    pub fn decode(bytes: &[u8]) -> Result<Node, String> {
        let (node, rest) = Node::decode_one(bytes)?;
        if rest.is_empty() { Ok(node) } else { Err(format!("{} bytes after the item", rest.len())) }
    }

    fn decode_one(bytes: &[u8]) -> Result<(Node, &[u8]), String> {
        let Some((head, rest)) = bytes.split_first_chunk::<8>() else {
            return Err(format!("{} bytes where a header was expected", bytes.len()));
        };
        let tag = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let length = usize::try_from(u32::from_be_bytes([head[4], head[5], head[6], head[7]])).expect("32 bits");
        if rest.len() < length.next_multiple_of(8) {
            return Err(format!("{tag:06X} has length {length} where {} bytes are left", rest.len()));
        }
        let (value, rest) = rest.split_at(length);
        let (padding, rest) = rest.split_at(length.next_multiple_of(8) - length);
        if padding.iter().any(|&byte| byte != 0) {
            return Err(format!("{tag:06X} is not padded with zeros"));
        }
        let wrong = || format!("{tag:06X} of type {} has length {length}", head[3]);
        let four = || <[u8; 4]>::try_from(value).map_err(|_| wrong());
        let eight = || <[u8; 8]>::try_from(value).map_err(|_| wrong());
        let value = match head[3] {
            1 => {
                let mut children = Vec::new();
                let mut inside = value;
                while !inside.is_empty() {
                    let (child, after) = Node::decode_one(inside)?;
                    children.push(child);
                    inside = after;
                }
                Value::Structure(children)
            }
            2 => Value::Integer(i32::from_be_bytes(four()?)),
            3 => Value::LongInteger(i64::from_be_bytes(eight()?)),
            4 if !value.is_empty() && value.len() % 8 == 0 => Value::BigInteger(value.to_vec()),
            5 => Value::Enumeration(u32::from_be_bytes(four()?)),
            6 => match u64::from_be_bytes(eight()?) {
                0 => Value::Boolean(false),
                1 => Value::Boolean(true),
                other => return Err(format!("{tag:06X} is a Boolean of {other}")),
            },
            7 => Value::TextString(String::from_utf8(value.to_vec()).map_err(|error| format!("{tag:06X}: {error}"))?),
            8 => Value::ByteString(value.to_vec()),
            9 => Value::DateTime(i64::from_be_bytes(eight()?)),
            10 => Value::Interval(u32::from_be_bytes(four()?)),
            _ => return Err(wrong()),
        };
        Ok((Node { tag, value }, rest))
    }

    pub fn children(&self) -> &[Node] {
        match &self.value {
            Value::Structure(children) => children,
            _ => panic!("not a Structure: {self:?}"),
        }
    }

    /// The first child with that tag.
    pub fn find(&self, tag: u32) -> Option<&Node> {
        self.children().iter().find(|child| child.tag == tag)
    }

    /// The first child with that tag, which has to be there.
    pub fn child(&self, tag: u32) -> &Node {
        self.find(tag).unwrap_or_else(|| panic!("no {tag:06X} in {self:?}"))
    }

    /// The item reached by going down along `tags`.
    pub fn at(&self, tags: &[u32]) -> &Node {
        tags.iter().fold(self, |node, &tag| node.child(tag))
    }

    pub fn all(&self, tag: u32) -> Vec<&Node> {
        self.children().iter().filter(|child| child.tag == tag).collect()
    }

    pub fn as_integer(&self) -> i32 {
        match self.value {
            Value::Integer(value) => value,
            _ => panic!("not an Integer: {self:?}"),
        }
    }

    pub fn as_enumeration(&self) -> u32 {
        match self.value {
            Value::Enumeration(value) => value,
            _ => panic!("not an Enumeration: {self:?}"),
        }
    }

    pub fn as_text(&self) -> &str {
        match &self.value {
            Value::TextString(value) => value,
            _ => panic!("not a Text String: {self:?}"),
        }
    }

    /// The bytes of a Byte String, or of a Big Integer as they were sent.
    pub fn as_bytes(&self) -> &[u8] {
        match &self.value {
            Value::ByteString(value) | Value::BigInteger(value) => value,
            _ => panic!("neither Byte String nor Big Integer: {self:?}"),
        }
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Value::Structure(children) => {
                write!(f, "{:06X} ", self.tag)?;
                f.debug_list().entries(children).finish()
            }
            value => write!(f, "{:06X} {value:?}", self.tag),
        }
    }
}

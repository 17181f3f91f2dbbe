//! Requests as a client writes them, answers as a strict client reads them.

use super::tags::{self, operation};
use super::ttlv::{Node, Value, boolean, bytes, enumeration, integer, structure, text};

/// A request message; the fields are public so that tests can spoil them.
#[derive(Clone)]
pub struct Request {
    pub version: (i32, i32),
    pub maximum_response_size: Option<i32>,
    pub login: Option<(String, String)>,
    pub continuation: Option<u32>,
    pub order: Option<bool>,
    /// What Batch Count says, if not the number of items.
    pub count: Option<i32>,
    pub items: Vec<Item>,
}

/// One batch item of a request.
#[derive(Clone)]
pub struct Item {
    pub operation: u32,
    pub id: Option<Vec<u8>>,
    pub payload: Vec<Node>,
    pub extension: Option<Node>,
}

impl Item {
    pub fn new(operation: u32, payload: Vec<Node>) -> Item {
        Item { operation, id: None, payload, extension: None }
    }

    pub fn with_id(mut self, id: &[u8]) -> Item {
        self.id = Some(id.to_vec());
        self
    }

    pub fn to_node(&self) -> Node {
        let mut fields = vec![enumeration(tags::OPERATION, self.operation)];
        fields.extend(self.id.iter().map(|id| bytes(tags::UNIQUE_BATCH_ITEM_ID, id)));
        fields.push(structure(tags::REQUEST_PAYLOAD, self.payload.clone()));
        fields.extend(self.extension.clone());
        structure(tags::BATCH_ITEM, fields)
    }
}

impl Request {
    /// A request of version 1.2 without credential.
    pub fn new(items: Vec<Item>) -> Request {
        Request {
            version: (1, 2),
            maximum_response_size: None,
            login: None,
            continuation: None,
            order: None,
            count: None,
            items,
        }
    }

    pub fn version(mut self, major: i32, minor: i32) -> Request {
        self.version = (major, minor);
        self
    }

    pub fn login(mut self, username: &str, password: &str) -> Request {
        self.login = Some((username.to_string(), password.to_string()));
        self
    }

    pub fn header(&self) -> Node {
        let mut fields = vec![protocol_version(self.version)];
        fields.extend(self.maximum_response_size.map(|size| integer(tags::MAXIMUM_RESPONSE_SIZE, size)));
        fields.extend(self.login.as_ref().map(|(username, password)| authentication(username, password)));
        fields.extend(self.continuation.map(|option| enumeration(tags::BATCH_ERROR_CONTINUATION_OPTION, option)));
        fields.extend(self.order.map(|order| boolean(tags::BATCH_ORDER_OPTION, order)));
        let count = self.count.unwrap_or_else(|| i32::try_from(self.items.len()).expect("few items"));
        fields.push(integer(tags::BATCH_COUNT, count));
        structure(tags::REQUEST_HEADER, fields)
    }

    pub fn to_node(&self) -> Node {
        let mut parts = vec![self.header()];
        parts.extend(self.items.iter().map(Item::to_node));
        structure(tags::REQUEST_MESSAGE, parts)
    }

    pub fn encode(&self) -> Vec<u8> {
        self.to_node().encode()
    }
}

pub fn protocol_version((major, minor): (i32, i32)) -> Node {
    let fields = vec![integer(tags::PROTOCOL_VERSION_MAJOR, major), integer(tags::PROTOCOL_VERSION_MINOR, minor)];
    structure(tags::PROTOCOL_VERSION, fields)
}

pub fn authentication(username: &str, password: &str) -> Node {
    let value = vec![text(tags::USERNAME, username), text(tags::PASSWORD, password)];
    let credential = vec![enumeration(tags::CREDENTIAL_TYPE, 1), structure(tags::CREDENTIAL_VALUE, value)];
    structure(tags::AUTHENTICATION, vec![structure(tags::CREDENTIAL, credential)])
}

/// An Attribute without index.
pub fn attribute(name: &str, value: Value) -> Node {
    let fields = vec![text(tags::ATTRIBUTE_NAME, name), Node { tag: tags::ATTRIBUTE_VALUE, value }];
    structure(tags::ATTRIBUTE, fields)
}

/// The Attribute "Name", an uninterpreted text string.
pub fn name_attribute(name: &str) -> Node {
    attribute("Name", Value::Structure(vec![text(tags::NAME_VALUE, name), enumeration(tags::NAME_TYPE, 1)]))
}

/// A response message that has kept to the standard.
pub struct Response {
    pub version: (i32, i32),
    pub answers: Vec<Answer>,
    /// Its size on the wire.
    pub size: usize,
}

/// One batch item of a response.
#[derive(Clone, Debug)]
pub struct Answer {
    pub operation: Option<u32>,
    pub id: Option<Vec<u8>>,
    pub status: u32,
    pub reason: Option<u32>,
    pub message: Option<String>,
    pub payload: Option<Node>,
}

impl Response {
    /// Reads a response, holding it to the order of fields and to what Result Status asks for.
    pub fn read(message: &Node) -> Response {
        assert_eq!(message.tag, tags::RESPONSE_MESSAGE, "{message:?}");
        let (header, items) = message.children().split_first().expect("a header");
        let fields: Vec<u32> = header.children().iter().map(|field| field.tag).collect();
        assert_eq!(header.tag, tags::RESPONSE_HEADER);
        assert_eq!(fields, [tags::PROTOCOL_VERSION, tags::TIME_STAMP, tags::BATCH_COUNT], "{header:?}");
        let version = header.child(tags::PROTOCOL_VERSION);
        let major = version.child(tags::PROTOCOL_VERSION_MAJOR).as_integer();
        let minor = version.child(tags::PROTOCOL_VERSION_MINOR).as_integer();
        assert_eq!(usize::try_from(header.child(tags::BATCH_COUNT).as_integer()), Ok(items.len()), "{message:?}");
        let answers = items.iter().map(Answer::read).collect();
        Response { version: (major, minor), answers, size: message.encode().len() }
    }

    /// The answer of a response that has exactly one.
    pub fn single(&self) -> &Answer {
        assert_eq!(self.answers.len(), 1, "{:?}", self.answers);
        &self.answers[0]
    }
}

impl Answer {
    fn read(item: &Node) -> Answer {
        const ORDER: [u32; 6] = [
            tags::OPERATION,
            tags::UNIQUE_BATCH_ITEM_ID,
            tags::RESULT_STATUS,
            tags::RESULT_REASON,
            tags::RESULT_MESSAGE,
            tags::RESPONSE_PAYLOAD,
        ];
        assert_eq!(item.tag, tags::BATCH_ITEM);
        let places: Vec<usize> = item
            .children()
            .iter()
            .map(|field| ORDER.iter().position(|&tag| tag == field.tag).unwrap_or_else(|| panic!("{field:?}")))
            .collect();
        assert!(places.is_sorted_by(|a, b| a < b), "fields out of order or twice: {item:?}");
        let answer = Answer {
            operation: item.find(tags::OPERATION).map(Node::as_enumeration),
            id: item.find(tags::UNIQUE_BATCH_ITEM_ID).map(|id| id.as_bytes().to_vec()),
            status: item.child(tags::RESULT_STATUS).as_enumeration(),
            reason: item.find(tags::RESULT_REASON).map(Node::as_enumeration),
            message: item.find(tags::RESULT_MESSAGE).map(|message| message.as_text().to_string()),
            payload: item.find(tags::RESPONSE_PAYLOAD).cloned(),
        };
        match answer.status {
            0 => assert!(answer.reason.is_none() && answer.payload.is_some(), "{item:?}"),
            1 => assert!(answer.reason.is_some() && answer.payload.is_none(), "{item:?}"),
            other => panic!("Result Status {other}: {item:?}"),
        }
        answer
    }

    /// The payload of an answer that has to be a success.
    pub fn payload(&self) -> &Node {
        self.payload.as_ref().unwrap_or_else(|| panic!("{} was refused: {self:?}", self.operation_name()))
    }

    /// Holds that the operation failed for that reason.
    pub fn is_refused(&self, reason: u32) {
        assert_eq!(self.status, 1, "{} was not refused: {self:?}", self.operation_name());
        assert_eq!(self.reason, Some(reason), "{}: {self:?}", self.operation_name());
    }

    /// Holds that a request message as a whole was refused: one item, without Operation.
    pub fn is_refused_as_a_whole(&self, reason: u32) {
        assert_eq!(self.operation, None, "{self:?}");
        self.is_refused(reason);
    }

    fn operation_name(&self) -> String {
        match self.operation {
            None => "the message".to_string(),
            Some(operation::SIGN) => "Sign".to_string(),
            Some(other) => format!("operation {other:#x}"),
        }
    }
}

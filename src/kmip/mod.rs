//! KMIP 1.0 to 1.4: numbers, headers, batch items, attributes and key blocks. Knows nothing of PKCS#11.
#![forbid(unsafe_code)]

mod attribute;
mod credential;
mod enums;
mod failure;
mod fields;
mod key_block;
mod parameters;
mod request;
mod response;
pub mod tag;
mod version;

pub use attribute::{Attribute, Definition, TemplateAttribute, definition, write_attribute};
pub use credential::Credential;
pub use enums::{
    BatchErrorContinuation, CredentialType, CryptographicAlgorithm, DigitalSignatureAlgorithm, HashingAlgorithm,
    KeyFormatType, LinkType, MaskGenerator, NameType, ObjectType, Operation, PaddingMethod, QueryFunction,
    RecommendedCurve, ResultReason, ResultStatus, RevocationReasonCode, RngAlgorithm, State, StorageStatusMask,
    UsageMask, ValidityIndicator,
};
pub use failure::{Failure, Outcome};
pub use fields::{Count, Field, optional, read_fields, repeated, required, same_tag};
pub use key_block::{KeyBlock, KeyMaterial};
pub use parameters::CryptographicParameters;
pub use request::{BatchItem, Continuation, Limits, Rejected, Request, RequestHeader, decode_version, stated_version};
pub use response::Response;
pub use version::Version;

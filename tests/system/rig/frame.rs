//! One request of the Kafka protocol, as it stands on the wire.

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{ApiKey, RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Encodable};
use std::io::{Read, Result};

/// Reads a frame without its length; an error at the end of the stream too.
pub(super) fn read(from: &mut impl Read) -> Result<Bytes> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let mut frame = vec![0; usize::try_from(i32::from_be_bytes(length)).map_err(std::io::Error::other)?];
    from.read_exact(&mut frame)?;
    Ok(frame.into())
}

/// With its length in front.
pub(super) fn framed(frame: &[u8]) -> Vec<u8> {
    let mut out = i32::try_from(frame.len()).unwrap().to_be_bytes().to_vec();
    out.extend_from_slice(frame);
    out
}

/// A request whose body is looked at only where a test asks.
pub struct Request {
    pub api: ApiKey,
    /// The `client.id`: for a transactional producer of ours, its transactional id.
    pub client: String,
    header: RequestHeader,
    body: Bytes,
}

impl Request {
    pub(super) fn parse(frame: &Bytes) -> Self {
        let api = ApiKey::try_from(i16::from_be_bytes([frame[0], frame[1]])).unwrap();
        let version = i16::from_be_bytes([frame[2], frame[3]]);
        let mut body = frame.clone();
        let header = RequestHeader::decode(&mut body, api.request_header_version(version)).unwrap();
        let client = header.client_id.as_deref().unwrap_or_default().to_owned();
        Self { api, client, header, body }
    }

    pub(super) fn frame(&self) -> Bytes {
        let mut frame = BytesMut::new();
        let version = self.api.request_header_version(self.header.request_api_version);
        self.header.encode(&mut frame, version).unwrap();
        frame.extend_from_slice(&self.body);
        frame.freeze()
    }

    /// Its body; the test names the type that belongs to `api`.
    pub fn body<T: Decodable>(&self) -> T {
        T::decode(&mut self.body.clone(), self.header.request_api_version).unwrap()
    }

    /// The same request with another body.
    #[must_use]
    pub fn with(mut self, body: &impl Encodable) -> Self {
        let mut bytes = BytesMut::new();
        body.encode(&mut bytes, self.header.request_api_version).unwrap();
        self.body = bytes.freeze();
        self
    }

    /// The frame of an answer to it.
    pub fn answered(&self, body: &impl Encodable) -> Bytes {
        let version = self.header.request_api_version;
        let header = ResponseHeader::default().with_correlation_id(self.header.correlation_id);
        let mut frame = BytesMut::new();
        header.encode(&mut frame, self.api.response_header_version(version)).unwrap();
        body.encode(&mut frame, version).unwrap();
        frame.freeze()
    }

    /// The body of the answer to it.
    pub(super) fn answer<T: Decodable>(&self, mut frame: Bytes) -> T {
        let version = self.header.request_api_version;
        let header = ResponseHeader::decode(&mut frame, self.api.response_header_version(version)).unwrap();
        assert_eq!(header.correlation_id, self.header.correlation_id, "an answer to something else");
        T::decode(&mut frame, version).unwrap()
    }
}

//! The gRPC codec of all Doorward services: what would take too much memory is refused before it is decoded.

use std::marker::PhantomData;

use prost::{Message, bytes::Buf as _};
use tonic::{
    Status,
    codec::{BufferSettings, Codec, DecodeBuf, Decoder},
};
use tonic_prost::{ProstDecoder, ProstEncoder};

use crate::{
    v1::{
        AdvanceCursorRequest, AuditAck, AuditBatch, AuditCursor, CreateCursorRequest, GetPolicyStatusRequest,
        IntrospectRequest, IntrospectResponse, ListCursorsRequest, ListCursorsResponse, ListProxiesRequest,
        ListProxiesResponse, PolicyStatus, PolicyUpdate, QueryRequest, RemoveCursorRequest, StoredRecord,
        SubscribeRequest, TailEvent, TailRequest,
    },
    wire::{PLAIN, QUESTION, Refused, SUBSCRIBE, Shape, weigh},
};

/// A message that comes over the wire. One from a client of the control plane has a bound.
pub trait Bounded {
    /// Its form, and what it may take in memory when decoded, in bytes; `None`: the sender is trusted, the size is bounded
    /// elsewhere.
    const BOUND: Option<(&'static Shape, usize)>;
}

macro_rules! bounded {
    ($($message:ty: $bound:expr;)*) => { $(impl Bounded for $message { const BOUND: Option<(&'static Shape, usize)> = $bound; })* };
}

bounded! {
    // From clients.
    AuditBatch: Some((&PLAIN, 1 << 20));
    SubscribeRequest: Some((&SUBSCRIBE, 256 << 10));
    TailRequest: Some((&QUESTION, 64 << 10));
    QueryRequest: Some((&QUESTION, 64 << 10));
    ListCursorsRequest: Some((&PLAIN, 64 << 10));
    CreateCursorRequest: Some((&PLAIN, 64 << 10));
    AdvanceCursorRequest: Some((&PLAIN, 64 << 10));
    RemoveCursorRequest: Some((&PLAIN, 64 << 10));
    ListProxiesRequest: Some((&PLAIN, 64 << 10));
    GetPolicyStatusRequest: Some((&PLAIN, 64 << 10));
    IntrospectRequest: Some((&PLAIN, 64 << 10));
    // From the control plane.
    AuditAck: None;
    PolicyUpdate: None;
    TailEvent: None;
    StoredRecord: None;
    AuditCursor: None;
    ListCursorsResponse: None;
    ListProxiesResponse: None;
    PolicyStatus: None;
    IntrospectResponse: None;
}

/// prost's codec with [`Bounded`] before it.
#[derive(Debug, Clone)]
pub struct BoundedCodec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for BoundedCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Codec for BoundedCodec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Bounded + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = BoundedDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstEncoder::new(BufferSettings::default())
    }

    fn decoder(&mut self) -> Self::Decoder {
        BoundedDecoder(ProstDecoder::new(BufferSettings::default()))
    }
}

/// Decodes what is within its bound.
#[derive(Debug, Clone)]
pub struct BoundedDecoder<U>(ProstDecoder<U>);

impl<U: Message + Default + Bounded> Decoder for BoundedDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, source: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        if let Some((shape, most)) = U::BOUND {
            // The whole message is there, in one piece: gRPC says its length first.
            let bytes = source.chunk();
            if bytes.len() != source.remaining() {
                return Err(Status::internal("a message did not arrive in one piece; this is a defect"));
            }
            match weigh(bytes, shape, most) {
                Ok(_) => {}
                Err(Refused::TooLarge) => {
                    return Err(Status::resource_exhausted(format!(
                        "the message has too many elements: decoded it would take more than {most} bytes"
                    )));
                }
                Err(Refused::Malformed) => return Err(Status::invalid_argument("the message is not well formed")),
            }
        }
        self.0.decode(source)
    }

    fn buffer_settings(&self) -> BufferSettings {
        self.0.buffer_settings()
    }
}

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Buf;
use http::{Response, header::CONTENT_LENGTH};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use crate::{
    admission::{Policy, Running, Verdict},
    outcome::Classify,
    time::Tick,
};

/// The head is there, or will never be: the call is judged, and settled unless a body is still to come.
pub(super) fn streamed<B, E, P, C>(
    call: &mut Option<Running<P, C>>,
    result: Result<Response<B>, E>,
) -> Result<Response<StreamedBody<B, P, C>>, E>
where
    B: Body,
    P: Policy,
    C: Classify<Response<B>, E>,
{
    let running = call.as_ref().expect("a call is judged once");
    let head = running.verdict(result.as_ref());
    let left = result.as_ref().ok().and_then(length);
    let mut held = Held { call: call.take(), head, left, asked: false, waits_since: None };
    let response = match result {
        Ok(response) => response,
        Err(error) => {
            held.settle(head);
            return Err(error);
        }
    };
    if held.left == Some(0) || response.body().is_end_stream() {
        held.settle(head);
    }
    Ok(response.map(|body| StreamedBody { body, held }))
}

/// How many bytes the body will have, when the head or the body knows.
fn length<B: Body>(response: &Response<B>) -> Option<u64> {
    let told = response.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    told.or_else(|| response.body().size_hint().exact())
}

/// A call whose head was judged and whose body still streams.
struct Held<P: Policy, C> {
    call: Option<Running<P, C>>,
    head: Verdict,
    // How many bytes are still to come, when it is known.
    left: Option<u64>,
    // Whether anybody has asked for a piece of the body.
    asked: bool,
    // Since when the caller has been waiting for a piece of the body; none while the caller has not asked for one.
    waits_since: Option<Tick>,
}

impl<P: Policy, C> Held<P, C> {
    fn settle(&mut self, verdict: Verdict) {
        if let Some(mut call) = self.call.take() {
            call.settle(verdict);
        }
    }

    /// The body broke off. A head that was a failure already may have said how long to stay away.
    fn fail(&mut self) {
        let failed = matches!(self.head, Verdict::Failure { .. });
        self.settle(if failed { self.head } else { Verdict::Failure { retry_after: None } });
    }

    /// Whether hosts ask for nothing after this frame, even if the body does not say that it has ended: nothing comes
    /// after trailers, and HTTP/1 drops a body once it has sent as many bytes as the head told.
    fn is_last<D: Buf>(&mut self, frame: &Frame<D>) -> bool {
        let Some(data) = frame.data_ref() else { return frame.is_trailers() };
        self.left = self.left.map(|left| left.saturating_sub(data.remaining() as u64));
        self.left == Some(0)
    }
}

impl<P: Policy, C> Drop for Held<P, C> {
    fn drop(&mut self) {
        if self.call.is_none() {
            return;
        }
        // Who stops reading an error page has still seen the error.
        let verdict = match self.head {
            // Nobody wanted the body, as in the answer to HEAD: the head is all there is to judge.
            Verdict::Success if !self.asked => Verdict::Success,
            // A reader may be slow or stay for hours, and then leave: only a wait for the service is the service's.
            Verdict::Success => {
                let waited = self.waits_since.map_or(Duration::ZERO, |since| Tick::now().since(since));
                Verdict::BrokenOff { waited }
            }
            head => head,
        };
        self.settle(verdict);
    }
}

impl<P: Policy, C> fmt::Debug for Held<P, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held").field("head", &self.head).field("settled", &self.call.is_none()).finish()
    }
}

pin_project! {
    /// A body that tells the policy of its end.
    #[derive(Debug)]
    pub struct StreamedBody<B, P: Policy, C> {
        #[pin]
        body: B,
        held: Held<P, C>,
    }
}

/// A body that is the end of no call: what a fallback answers with behind
/// [`Stack::until_body_end`](crate::Stack::until_body_end).
impl<B, P: Policy, C> From<B> for StreamedBody<B, P, C> {
    fn from(body: B) -> Self {
        Self { body, held: Held { call: None, head: Verdict::Ignored, left: None, asked: false, waits_since: None } }
    }
}

impl<B: Body, P: Policy, C> Body for StreamedBody<B, P, C> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let mut this = self.project();
        this.held.asked = true;
        let poll = || this.body.as_mut().poll_frame(cx);
        let polled = match &mut this.held.call {
            Some(call) => call.guard(poll),
            None => return this.body.as_mut().poll_frame(cx),
        };
        let Poll::Ready(frame) = polled else {
            this.held.waits_since.get_or_insert_with(Tick::now);
            return Poll::Pending;
        };
        this.held.waits_since = None;
        match &frame {
            Some(Err(_)) => this.held.fail(),
            // Nor do hosts ask for another frame when the body says that there is none.
            Some(Ok(frame)) if !this.held.is_last(frame) && !this.body.is_end_stream() => {}
            Some(Ok(_)) | None => this.held.settle(this.held.head),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

// SPDX-License-Identifier: Apache-2.0
import Testing

@testable import Metrics

struct ScrapeConversationTests {
  /// What is answered to a request that comes in pieces of so many bytes.
  private func answer(to request: String, pieces: Int = 1000) -> String {
    var conversation = ScrapeConversation()
    let bytes = Array(request.utf8)
    for start in stride(from: 0, to: bytes.count, by: pieces)
    where conversation.take(bytes[start..<min(start + pieces, bytes.count)].span) { break }
    return String(decoding: conversation.answer { "x 1\n" }, as: UTF8.self)
  }

  @Test("a GET has an HTTP answer, however it comes in", arguments: [1, 3, 1000])
  func get(pieces: Int) {
    #expect(
      answer(to: "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n", pieces: pieces)
        == "HTTP/1.0 200 OK\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\nContent-Length: 4\r\nConnection: close\r\n\r\nx 1\n"
    )
  }

  @Test("who says nothing gets the bare text")
  func bare() { #expect(answer(to: "") == "x 1\n") }

  @Test("a HEAD has no body, and a question does not matter")
  func head() {
    #expect(answer(to: "HEAD /metrics?x=1 HTTP/1.0\n\n").hasSuffix("Content-Length: 4\r\nConnection: close\r\n\r\n"))
  }

  @Test(
    "anything else is refused with its status",
    arguments: [
      ("GET /other HTTP/1.0\r\n\r\n", "404"), ("POST /metrics HTTP/1.0\r\n\r\n", "405"), ("nonsense\r\n\r\n", "400"),
      ("GET /metrics\r\n\r\n", "400"), ("GET /metrics HTTP/2\r\n\r\n", "400"), ("GET /metrics HTTP/1.0\r\nhalf", "400"),
      ("\r\n\r\n", "400"), ("\u{0}", "400"),
    ])
  func refused(request: String, status: String) {
    #expect(answer(to: request).hasPrefix("HTTP/1.0 \(status) "))
  }

  @Test("a request is as long as one may be, and no longer, before it is answered")
  func long() {
    var conversation = ScrapeConversation()
    let line = [UInt8](repeating: 97, count: ScrapeConversation.maximumRequest - 1)
    let before = conversation.take(line.span)
    let atLimit = conversation.take([97].span)
    #expect(!before && atLimit)
    #expect(conversation.answer { "" }.starts(with: Array("HTTP/1.0 400 ".utf8)))
  }
}

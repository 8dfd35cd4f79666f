// SPDX-License-Identifier: Apache-2.0

/// What is said at a metrics socket. Whoever sends an HTTP request gets an HTTP answer; whoever sends nothing gets the bare text.
///
/// Pure: it is given what has come in, and says whether to wait for more or what to answer.
struct ScrapeConversation {
  /// The most bytes of a request.
  static let maximumRequest = 8192

  private var request: [UInt8] = []

  /// Takes in bytes.
  /// - Returns: whether the request is whole, or as long as one may be.
  mutating func take(_ bytes: Span<UInt8>) -> Bool {
    for index in bytes.indices where request.count < Self.maximumRequest { request.append(bytes[index]) }
    return isWhole || request.count == Self.maximumRequest
  }

  /// Whether the empty line has come that ends a request's head.
  private var isWhole: Bool {
    var lineIsEmpty = false
    for byte in request {
      switch byte {
      case 10:
        if lineIsEmpty { return true }
        lineIsEmpty = true
      case 13: break
      default: lineIsEmpty = false
      }
    }
    return false
  }

  /// What to answer to what has come in so far.
  func answer(_ page: () -> String) -> [UInt8] {
    if request.isEmpty { return Array(page().utf8) }
    let line = request.prefix { $0 != 10 && $0 != 13 }
    let words = line.split(separator: 32, omittingEmptySubsequences: false).map { String(decoding: $0, as: UTF8.self) }
    guard isWhole, words.count == 3, words[2].hasPrefix("HTTP/1.") else {
      return Self.http("400 Bad Request", "no HTTP/1 request\n")
    }
    guard words[0] == "GET" || words[0] == "HEAD" else {
      return Self.http("405 Method Not Allowed", "only GET\n", more: "Allow: GET, HEAD\r\n")
    }
    let path = words[1].prefix { $0 != "?" }
    guard path == "/metrics" || path == "/" else { return Self.http("404 Not Found", "only /metrics\n") }
    return Self.http(
      "200 OK", page(), type: "text/plain; version=0.0.4; charset=utf-8", withBody: words[0] == "GET")
  }

  private static func http(
    _ status: String, _ body: String, type: String = "text/plain; charset=utf-8", more: String = "",
    withBody: Bool = true
  ) -> [UInt8] {
    let head =
      "HTTP/1.0 \(status)\r\nContent-Type: \(type)\r\nContent-Length: \(body.utf8.count)\r\n\(more)Connection: close\r\n\r\n"
    return Array((head + (withBody ? body : "")).utf8)
  }
}

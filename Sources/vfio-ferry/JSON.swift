// SPDX-License-Identifier: Apache-2.0

/// A JSON value that keeps the order of its keys. Printing is all that the commands need; Foundation would be larger
/// than the rest of the program.
indirect enum JSON: Hashable {
  case null
  case bool(Bool)
  case integer(Int64)
  case unsigned(UInt64)
  case string(String)
  case array([JSON])
  case object([Member])

  struct Member: Hashable {
    let key: String
    let value: JSON
  }

  static func object(_ members: KeyValuePairs<String, JSON>) -> JSON {
    .object(members.map { Member(key: $0.key, value: $0.value) })
  }

  init(_ text: String?) { self = text.map { .string($0) } ?? .null }
  init(_ number: UInt64?) { self = number.map { .unsigned($0) } ?? .null }
  init(_ number: Int?) { self = number.map { .integer(Int64($0)) } ?? .null }
  init(_ flag: Bool?) { self = flag.map { .bool($0) } ?? .null }

  /// The text, on one line or, pretty, on many.
  func text(pretty: Bool) -> String {
    var text = ""
    write(&text, pretty: pretty, depth: 0)
    return text
  }

  private func write(_ text: inout String, pretty: Bool, depth: Int) {
    switch self {
    case .null: text += "null"
    case .bool(let value): text += value ? "true" : "false"
    case .integer(let value): text += "\(value)"
    case .unsigned(let value): text += "\(value)"
    case .string(let value): Self.quote(value, &text)
    case .array(let values):
      Self.list(&text, "[", "]", values, pretty: pretty, depth: depth) { value, text in
        value.write(&text, pretty: pretty, depth: depth + 1)
      }
    case .object(let members):
      Self.list(&text, "{", "}", members, pretty: pretty, depth: depth) { member, text in
        Self.quote(member.key, &text)
        text += pretty ? ": " : ":"
        member.value.write(&text, pretty: pretty, depth: depth + 1)
      }
    }
  }

  private static func list<Element>(
    _ text: inout String, _ open: String, _ close: String, _ elements: [Element], pretty: Bool, depth: Int,
    _ write: (Element, inout String) -> Void
  ) {
    text += open
    for (index, element) in elements.enumerated() {
      if index > 0 { text += "," }
      if pretty { text += "\n" + String(repeating: "  ", count: depth + 1) }
      write(element, &text)
    }
    if pretty, !elements.isEmpty { text += "\n" + String(repeating: "  ", count: depth) }
    text += close
  }

  private static func quote(_ value: String, _ text: inout String) {
    text += "\""
    for scalar in value.unicodeScalars {
      switch scalar {
      case "\"": text += "\\\""
      case "\\": text += "\\\\"
      case "\n": text += "\\n"
      case "\t": text += "\\t"
      case "\r": text += "\\r"
      default:
        if scalar.value < 0x20 {
          let digits = String(scalar.value, radix: 16)
          text += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
        } else {
          text.unicodeScalars.append(scalar)
        }
      }
    }
    text += "\""
  }
}

// SPDX-License-Identifier: Apache-2.0

/// The part of TOML that a short list of settings needs: `key = value` lines, comments, and as values strings on one line,
/// whole numbers, `true`, `false`, and arrays of these over as many lines as wanted. Everything that is accepted means what it
/// means in TOML 1.0; tables, dotted keys, dates, fractions and strings of several lines are refused.
///
/// It is written here because decoders that fill a structure no longer know the line of a value, and a person who has written
/// a wrong one is to be told where.
struct PlainTOML {
  /// A value.
  indirect enum Value: Hashable {
    case string(String)
    case integer(Int)
    case boolean(Bool)
    case array([Item])

    /// What it is, for a person.
    var kind: String {
      switch self {
      case .string: "a string"
      case .integer: "a number"
      case .boolean: "true or false"
      case .array: "an array"
      }
    }
  }

  /// A value and the line that it begins on, from 1.
  struct Item: Hashable {
    var value: Value
    var line: Int
  }

  /// A setting.
  struct Entry: Hashable {
    var key: String
    /// The key's line.
    var line: Int
    var item: Item
  }

  /// What is wrong, and where.
  struct Problem: Error, Hashable {
    var line: Int
    var reason: String
  }

  /// Its settings, in their order, no key twice.
  private(set) var entries: [Entry] = []

  private let bytes: [UInt8]
  private var keys: Set<String> = []
  private var place = 0
  private var line = 1
  /// Arrays that the parser is in.
  private var depth = 0

  init(_ bytes: [UInt8]) throws(Problem) {
    self.bytes = bytes
    while true {
      skipBlank(lines: true)
      guard place < bytes.count else { return }
      try readEntry()
      skipBlank(lines: false)
      guard place == bytes.count || here(10) else { throw problem("something follows the value on its line") }
    }
  }

  private func problem(_ reason: String) -> Problem { Problem(line: line, reason: reason) }
  private func here(_ byte: UInt8) -> Bool { place < bytes.count && bytes[place] == byte }
  private func here(_ character: Unicode.Scalar) -> Bool { here(UInt8(ascii: character)) }

  private mutating func take(_ character: Unicode.Scalar) -> Bool {
    guard here(character) else { return false }
    place += 1
    return true
  }

  /// Spaces, tabs and a comment; or, over lines, all of them.
  private mutating func skipBlank(lines: Bool) {
    while place < bytes.count {
      switch bytes[place] {
      case UInt8(ascii: " "), UInt8(ascii: "\t"): place += 1
      case UInt8(ascii: "\r") where place + 1 < bytes.count && bytes[place + 1] == 10: place += 1
      case UInt8(ascii: "#"): while place < bytes.count, bytes[place] != 10 { place += 1 }
      case 10 where lines:
        place += 1
        line += 1
      default: return
      }
    }
  }

  private mutating func readEntry() throws(Problem) {
    let key = word()
    guard !key.isEmpty else {
      throw problem(
        here("[") ? "tables have no meaning here" : "a setting begins with its name, which has no quotes")
    }
    let line = line
    skipBlank(lines: false)
    if here(".") { throw problem("names with dots have no meaning here") }
    guard take("=") else { throw problem("after \(key) there has to be =") }
    skipBlank(lines: false)
    guard keys.insert(key).inserted else { throw problem("\(key) is there twice") }
    entries.append(Entry(key: key, line: line, item: try readItem()))
  }

  /// Letters, digits, dashes and underscores.
  private mutating func word() -> String {
    let start = place
    while place < bytes.count {
      switch bytes[place] {
      case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
        UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "_"):
        place += 1
      default: return String(decoding: bytes[start..<place], as: UTF8.self)
      }
    }
    return String(decoding: bytes[start..<place], as: UTF8.self)
  }

  private mutating func readItem() throws(Problem) -> Item {
    let line = line
    if take("[") { return Item(value: try readArray(), line: line) }
    if take("\"") { return Item(value: .string(try readString(UInt8(ascii: "\""), escapes: true)), line: line) }
    if take("'") { return Item(value: .string(try readString(UInt8(ascii: "'"), escapes: false)), line: line) }
    let plus = take("+")
    let word = word()
    switch word {
    case "true" where !plus: return Item(value: .boolean(true), line: line)
    case "false" where !plus: return Item(value: .boolean(false), line: line)
    default: break
    }
    guard let number = Self.number(word, signed: !plus), !here("."), !here(":") else {
      throw problem("a value is a string in quotes, a whole number, true, false, or an array of these")
    }
    return Item(value: .integer(number), line: line)
  }

  /// Decimal digits with underscores between them, and no zeros before them.
  private static func number(_ word: String, signed: Bool) -> Int? {
    let digits = word.hasPrefix("-") && signed ? word.dropFirst() : Substring(word)
    let groups = digits.split(separator: "_", omittingEmptySubsequences: false)
    guard groups.allSatisfy({ !$0.isEmpty && $0.utf8.allSatisfy { (48...57).contains($0) } }),
      digits == "0" || !digits.hasPrefix("0")
    else { return nil }
    return Int(word.split(separator: "_").joined())
  }

  private mutating func readArray() throws(Problem) -> Value {
    guard depth == 0 else { throw problem("an array in an array has no meaning here") }
    depth += 1
    defer { depth -= 1 }
    var items: [Item] = []
    while true {
      skipBlank(lines: true)
      if take("]") { return .array(items) }
      items.append(try readItem())
      skipBlank(lines: true)
      if take("]") { return .array(items) }
      guard take(",") else {
        throw problem(
          place == bytes.count ? "an array is not closed with ]" : "items of an array have commas between them")
      }
    }
  }

  private mutating func readString(_ quote: UInt8, escapes: Bool) throws(Problem) -> String {
    var text: [UInt8] = []
    if here(quote), place + 1 < bytes.count, bytes[place + 1] == quote {
      throw problem("a string of several lines has no meaning here")
    }
    while place < bytes.count {
      let byte = bytes[place]
      place += 1
      if byte == quote {
        guard let text = String(validating: text, as: UTF8.self) else { throw problem("a string is not UTF-8") }
        return text
      }
      if byte < 0x20 && byte != 9 || byte == 0x7f { break }
      guard escapes, byte == UInt8(ascii: "\\") else {
        text.append(byte)
        continue
      }
      guard place < bytes.count else { break }
      switch bytes[place] {
      case UInt8(ascii: "\""), UInt8(ascii: "\\"): text.append(bytes[place])
      case UInt8(ascii: "n"): text.append(10)
      case UInt8(ascii: "t"): text.append(9)
      default: throw problem("after a backslash in a string there may be \" \\ n or t")
      }
      place += 1
    }
    throw problem("a string is not closed on its line")
  }
}

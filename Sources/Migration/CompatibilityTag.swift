// SPDX-License-Identifier: Apache-2.0

/// What must match between a device and the one that its state goes to (DA7), and the identity that its state does not
/// carry (DA2).
///
/// It is written as text, the same on the wire, in a file and for a person: docs/tags.md has the format.
public struct CompatibilityTag: Hashable, Sendable {
  /// The version that this program writes, and the only one that it reads.
  public static let version = 1
  /// The most bytes of a tag's text: more than all fields that this program knows can come to.
  public static let maximumSize = 32_768
  static let maximumFields = 64
  static let maximumKeySize = 63
  static let maximumValueSize = 1024
  private static let heading = Array("vfio-ferry-tag ".utf8)

  /// A field as it is written. A newer program may write some that this one does not know.
  public struct Entry: Hashable, Sendable {
    public let key: String
    public let value: String
  }

  /// What is known, by ascending key.
  public private(set) var entries: [Entry] = []

  /// A tag of which nothing is known yet.
  public init() {}

  /// What is known of a field; nil for nothing. A value is printable ASCII of at most 1,024 bytes: what is set otherwise is
  /// made so, and an empty one is nothing.
  public subscript(field: TagField) -> String? {
    get { self[key: field.rawValue] }
    set { self[key: field.rawValue] = newValue }
  }

  /// The same of a field that this program may not know.
  subscript(key key: String) -> String? {
    get { entries.first { $0.key == key }?.value }
    set {
      entries.removeAll { $0.key == key }
      let bytes = (newValue ?? "").utf8.prefix(Self.maximumValueSize).map { Self.isPrintable($0) ? $0 : 63 }
      let value = String(decoding: bytes, as: UTF8.self)
      guard !value.isEmpty else { return }
      let place = entries.firstIndex { $0.key > key } ?? entries.endIndex
      entries.insert(Entry(key: key, value: value), at: place)
    }
  }

  /// Its text. The same tag has the same text.
  public var text: String {
    entries.reduce(into: String(decoding: Self.heading, as: UTF8.self) + "\(Self.version)\n") {
      $0 += "\($1.key) \($1.value)\n"
    }
  }

  /// The text of those fields that the loose policy may refuse a load by: where two have the same, it has nothing to refuse.
  public var decisiveText: String {
    entries.reduce(into: "") { text, entry in
      if TagRules.canRefuse(entry.key, vendor: self[.vendor]) { text += "\(entry.key) \(entry.value)\n" }
    }
  }

  /// Its text's bytes, as a stream's manifest carries them.
  public var encoded: [UInt8] { Array(text.utf8) }

  /// Why bytes are no tag.
  public enum Problem: Error, Hashable, Sendable {
    /// It does not begin as a tag does.
    case notATag
    /// It is of another version.
    case unsupportedVersion(String)
    /// It is larger than a tag may be.
    case tooLarge
    /// A line is not as it has to be; the first is number 1.
    case badLine(Int)
  }

  /// Reads a tag's text. Everything in it is bounded and checked, and only what ``text`` would write is taken.
  public init(decoding bytes: [UInt8]) throws(Problem) {
    guard bytes.count <= Self.maximumSize else { throw .tooLarge }
    guard bytes.starts(with: Self.heading) else { throw .notATag }
    let lines = bytes.split(separator: 10, omittingEmptySubsequences: false)
    let version = lines[0].dropFirst(Self.heading.count)
    guard version.elementsEqual("\(Self.version)".utf8) else {
      guard (1...9).contains(version.count), version.allSatisfy({ (48...57).contains($0) }) else { throw .notATag }
      throw .unsupportedVersion(String(decoding: version, as: UTF8.self))
    }
    // After the last line's end there is nothing.
    guard lines.count >= 2, lines.last?.isEmpty == true else { throw .badLine(lines.count) }
    guard lines.count - 2 <= Self.maximumFields else { throw .tooLarge }
    for (index, line) in lines.enumerated().dropFirst().dropLast() {
      guard let entry = Self.entry(line), entries.last.map({ $0.key < entry.key }) ?? true else {
        throw .badLine(index + 1)
      }
      entries.append(entry)
    }
  }

  private static func isPrintable(_ byte: UInt8) -> Bool { (0x20...0x7e).contains(byte) }

  private static func entry(_ line: ArraySlice<UInt8>) -> Entry? {
    guard let space = line.firstIndex(of: 32) else { return nil }
    let (key, value) = (line[..<space], line[(space + 1)...])
    guard (1...maximumKeySize).contains(key.count), key.allSatisfy({ (97...122).contains($0) || $0 == 95 }),
      (1...maximumValueSize).contains(value.count), value.allSatisfy(isPrintable)
    else { return nil }
    return Entry(key: String(decoding: key, as: UTF8.self), value: String(decoding: value, as: UTF8.self))
  }
}

extension CompatibilityTag.Problem: CustomStringConvertible {
  public var description: String {
    switch self {
    case .notATag: "it is no compatibility tag"
    case .unsupportedVersion(let version):
      "it is of version \(version), and this program reads version \(CompatibilityTag.version): another vfio-ferry wrote it"
    case .tooLarge:
      "it is larger than \(CompatibilityTag.maximumSize) bytes, or has more than \(CompatibilityTag.maximumFields) fields"
    case .badLine(let line): "line \(line) is not as a tag's has to be"
    }
  }
}

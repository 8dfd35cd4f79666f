// SPDX-License-Identifier: Apache-2.0

/// A source's tag beside a destination's: what is the same, what is not, and what that means (DA7).
public struct TagComparison: Hashable, Sendable {
  /// What was found of one field.
  public struct Finding: Hashable, Sendable {
    /// The field's name in a tag's text.
    public let key: String
    public let relation: TagRelation
    /// The source's value; nil where it does not say.
    public let source: String?
    /// The destination's.
    public let destination: String?
    /// Whether a load is refused for it under the strict policy.
    public let refusesStrict: Bool
    /// The same under the loose one.
    public let refusesLoose: Bool

    /// Whether somebody should hear of it where it refuses nothing.
    public let warns: Bool

    /// Whether a load is refused for it.
    public func refuses(under policy: TagPolicy) -> Bool {
      switch policy {
      case .strict: refusesStrict
      case .loose: refusesLoose
      case .none: false
      }
    }
  }

  /// Every field that either side knows, in the order of ``TagField``; then those that this program does not know.
  public let findings: [Finding]

  /// Compares what is moved from with what it is moved to.
  public init(source: CompatibilityTag, destination: CompatibilityTag) {
    let known = TagField.allCases.map { (key: $0.rawValue, field: TagField?.some($0)) }
    let others = source.entries.map(\.key) + destination.entries.map(\.key).filter { source[key: $0] == nil }
    let unknown = others.filter { TagField(rawValue: $0) == nil }.sorted().map { (key: $0, field: TagField?.none) }
    findings = (known + unknown).compactMap { key, field in
      let (from, to) = (source[key: key], destination[key: key])
      if from == nil, to == nil { return nil }
      let relation = Self.relation(from, to, field?.order ?? .none)
      func refuses(_ policy: TagPolicy) -> Bool {
        TagRules.refuses(relation, of: field, vendor: source[.vendor], under: policy)
      }
      return Finding(
        key: key, relation: relation, source: from, destination: to, refusesStrict: refuses(.strict),
        refusesLoose: refuses(.loose), warns: TagRules.warns(relation, of: field))
    }
  }

  /// What refuses a load; empty where nothing does.
  public func refusals(under policy: TagPolicy) -> [Finding] { findings.filter { $0.refuses(under: policy) } }

  /// What refuses nothing, and matters to the guest's peers.
  public func warnings(under policy: TagPolicy) -> [Finding] {
    findings.filter { $0.warns && !$0.refuses(under: policy) }
  }

  /// Why a state that was saved with one tag may not go to a device with the other, in words; nil where it may. Where either
  /// side has none, nothing is known.
  static func refusal(source: [UInt8], destination: [UInt8], policy: TagPolicy) -> String? {
    if policy == .none || source.isEmpty || destination.isEmpty || source == destination { return nil }
    do throws(CompatibilityTag.Problem) {
      let comparison = TagComparison(
        source: try CompatibilityTag(decoding: source), destination: try CompatibilityTag(decoding: destination))
      return words(comparison.refusals(under: policy))
    } catch {
      return "a compatibility tag can't be read: \(error)"
    }
  }

  /// Findings in a sentence; nil for none. A peer has written half of it: it may not become a page.
  public static func words(_ findings: [Finding]) -> String? {
    guard !findings.isEmpty else { return nil }
    let more = findings.count > 6 ? "; and \(findings.count - 6) more" : ""
    return findings.prefix(6).map { "\($0)" }.joined(separator: "; ") + more
  }

  // MARK: Two values

  private static func relation(_ source: String?, _ destination: String?, _ order: TagField.Order) -> TagRelation {
    guard let source else { return .extra }
    guard let destination else { return .missing }
    if source == destination { return .equal }
    switch order {
    case .none: return .different
    case .version: return versions(source, destination)
    case .number:
      guard let from = number(source[...]), let to = number(destination[...]) else { return .different }
      return from == to ? .equal : from < to ? .more : .fewer
    case .words:
      let (from, to) = (source.split(separator: " "), destination.split(separator: " "))
      switch (from.allSatisfy(to.contains), to.allSatisfy(from.contains)) {
      case (true, true): return .equal
      case (true, false): return .more
      case (false, true): return .fewer
      case (false, false): return .different
      }
    }
  }

  /// The first parts that differ decide; where these are no numbers, nothing does.
  private static func versions(_ source: String, _ destination: String) -> TagRelation {
    let parts = [source, destination].map { $0.split(omittingEmptySubsequences: false) { ".-+_ ".contains($0) } }
    for (from, to) in zip(parts[0], parts[1]) where from != to {
      guard let from = number(from), let to = number(to) else { return .different }
      if from != to { return from < to ? .newer : .older }
    }
    // "6.12" and "6.12.3"; but "6.12" and "6.12-vendor" are not to be ordered.
    let (longer, shorter) = parts[0].count > parts[1].count ? (parts[0], parts[1]) : (parts[1], parts[0])
    guard longer.dropFirst(shorter.count).allSatisfy({ number($0) != nil }), longer.count > shorter.count else {
      return .different
    }
    return parts[0].count < parts[1].count ? .newer : .older
  }

  /// Digits, at most eighteen, and so no overflow.
  private static func number(_ text: Substring) -> UInt64? {
    guard (1...18).contains(text.utf8.count), text.utf8.allSatisfy({ (48...57).contains($0) }) else { return nil }
    return UInt64(text)
  }
}

extension TagComparison.Finding: CustomStringConvertible {
  public var description: String {
    "\(key) is \(relation.rawValue): \(Self.short(source)) on the source, \(Self.short(destination)) on the destination"
  }

  static func short(_ value: String?) -> String {
    guard let value else { return "unknown" }
    return value.utf8.count > 80 ? value.prefix(77) + "..." : value
  }
}

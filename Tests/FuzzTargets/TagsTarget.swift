// SPDX-License-Identifier: Apache-2.0
import Migration

extension FuzzTarget {
  /// Compatibility tags, with a zero byte between them: what a source and a destination have found out, and what each was told
  /// besides. What is taken for a tag is what would be written, and nothing that was told has a load pass that was refused.
  static let tags = FuzzTarget("tags") { bytes in
    let texts = bytes.split(separator: 0, maxSplits: 3, omittingEmptySubsequences: false).map { Array($0) }
    let tags = try (texts + Array(repeating: [], count: 4 - texts.count)).map(read)
    let found = tags[..<2]
    let whole = try zip(found, tags[2...]).map(complete)
    let before = TagComparison(source: found[0], destination: found[1]).refusals(under: .loose)
    let after = TagComparison(source: whole[0], destination: whole[1]).refusals(under: .loose)
    try demand(before.allSatisfy(after.contains), "\(before) became \(after)")
  }

  /// An empty one for what is none.
  private static func read(_ text: [UInt8]) throws -> CompatibilityTag {
    let tag: CompatibilityTag
    do throws(CompatibilityTag.Problem) {
      tag = try CompatibilityTag(decoding: text)
    } catch {
      try demand(!"\(error)".isEmpty, "a refusal without words")
      return CompatibilityTag()
    }
    try demand(tag.encoded == text, "a tag is read that is written otherwise")
    return tag
  }

  private static func complete(_ own: CompatibilityTag, _ other: CompatibilityTag) throws -> CompatibilityTag {
    let whole: CompatibilityTag
    do throws(TagContradiction) {
      whole = try own.completed(by: other)
    } catch {
      try demand(!"\(error)".isEmpty, "a contradiction without words")
      return own
    }
    try demand(own.entries.allSatisfy(whole.entries.contains), "what was found out is not in the whole")
    try demand((try? CompatibilityTag(decoding: whole.encoded)) == whole, "the whole is no tag")
    return whole
  }
}

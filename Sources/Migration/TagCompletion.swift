// SPDX-License-Identifier: Apache-2.0
// What somebody else says of a device beside what was found out here (DA7).

/// Why a tag is not taken for one of a device.
public enum TagContradiction: Error, Hashable, Sendable {
  /// It says otherwise of this field.
  case differs(key: String, said: String, found: String)
  /// It says this of a field that the device does not have.
  case hasNone(key: String, said: String)
  /// Together they would be more than a tag may be.
  case tooLarge
}

extension CompatibilityTag {
  /// This tag, and beside it what another one says of the same device. Whoever has made that one need not be believed: where the
  /// loose policy refuses a source and a destination by what was found out on both sides, it refuses them still, whatever either
  /// side was told.
  ///
  /// So what this one says stays. Another value in the other one is a contradiction: it is of another device, or no longer true.
  /// Only of the features it is none, because a tag of a device that nobody has asked has what its driver usually supports.
  /// What this one does not say is taken, but for fields that every host can tell: there, to say nothing is to say that there is none.
  public func completed(by other: CompatibilityTag) throws(TagContradiction) -> CompatibilityTag {
    var whole = self
    for entry in other.entries {
      if let own = self[key: entry.key] {
        if own == entry.value || entry.key == TagField.features.rawValue { continue }
        throw .differs(key: entry.key, said: entry.value, found: own)
      }
      if TagRules.refusesAbsence(of: entry.key, vendor: self[.vendor]) {
        throw .hasNone(key: entry.key, said: entry.value)
      }
      whole[key: entry.key] = entry.value
    }
    guard whole.entries.count <= Self.maximumFields, whole.encoded.count <= Self.maximumSize else { throw .tooLarge }
    return whole
  }
}

extension TagContradiction: CustomStringConvertible {
  public var description: String {
    switch self {
    case .differs(let key, let said, let found):
      "it says \(key) \(TagComparison.Finding.short(said)), and here that is \(TagComparison.Finding.short(found))"
    case .hasNone(let key, let said): "it says \(key) \(TagComparison.Finding.short(said)), and here there is none"
    case .tooLarge:
      "with what was found out here it has more than \(CompatibilityTag.maximumFields) fields,"
        + " or \(CompatibilityTag.maximumSize) bytes"
    }
  }
}

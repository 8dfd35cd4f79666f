// SPDX-License-Identifier: Apache-2.0

/// Why something can't be done with a bitmap of dirty pages. Whatever throws it has changed nothing.
public enum DirtyBitmapError: Error, Hashable, Sendable {
  /// A page size in bytes that is no power of two, or outside what is allowed.
  case pageSize(UInt64)
  /// A layout without a single guest range, or with more than ``DirtyLayout/maximumRanges``: so many.
  case rangeCount(Int)
  /// A guest range that is empty or does not begin and end at a multiple of ``DirtyLayout/unit``.
  case range(Range<UInt64>)
  /// A guest range that begins before the end of the one that stands before it in the list.
  case order(Range<UInt64>)
  /// A layout of more than ``DirtyLayout/maximumWords``.
  case tooManyPages
  /// Memory of so many words, for a layout that takes another number.
  case wordCount(Int, needed: Int)
  /// Guest addresses that lie, as a whole or in part, in no guest range.
  case outside(Range<UInt64>)
  /// Two bitmaps over different guest ranges, or with different page sizes where these must be the same.
  case differentLayout
  /// I/O addresses that the kernel's answer does not cover.
  case notInAnswer(Range<UInt64>)
  /// I/O addresses and the guest address of the first, so that the guest addresses of the last don't fit into 64 bits.
  case overflow(Range<UInt64>, guest: UInt64)
}

extension DirtyBitmapError: CustomStringConvertible {
  public var description: String {
    switch self {
    case .pageSize(let size): "a page size of \(size) bytes is not possible here"
    case .rangeCount(let count):
      "\(count) guest ranges: there must be at least one and at most \(DirtyLayout.maximumRanges)"
    case .range(let range):
      "the guest range \(hexadecimal(range)) is empty, or not in whole units of \(DirtyLayout.unit) bytes"
    case .order(let range): "the guest range \(hexadecimal(range)) begins before the end of the one before it"
    case .tooManyPages: "a bitmap of more than \(DirtyLayout.maximumWords) words"
    case .wordCount(let count, let needed): "the bitmap takes \(needed) words of memory and got \(count)"
    case .outside(let range): "\(hexadecimal(range)) is not guest memory, or not all of it"
    case .differentLayout: "the two bitmaps are laid out differently"
    case .notInAnswer(let range): "the kernel's answer does not cover all of the I/O addresses \(hexadecimal(range))"
    case .overflow(let range, let guest):
      "the I/O addresses \(hexadecimal(range)) do not fit behind the guest address 0x\(String(guest, radix: 16))"
    }
  }
}

func hexadecimal(_ range: Range<UInt64>) -> String {
  "0x\(String(range.lowerBound, radix: 16))..<0x\(String(range.upperBound, radix: 16))"
}

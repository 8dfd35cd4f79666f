// SPDX-License-Identifier: Apache-2.0
public import LinuxIO
public import Migration

/// Dirty pages in memory that a VMM maps too. Here because `Migration` knows no system, and `LinuxIO` no dirty pages.
extension SharedWords: DirtyWords {
  public var lockedAddress: UInt64? { isLocked ? address : nil }
}

/// Dirty pages in memory that is this process's alone.
extension LockedWords: DirtyWords {
  public var lockedAddress: UInt64? { address }
}

extension DirtyBitmap where Words == SharedWords {
  /// A bitmap that can be shared, with nothing dirty. Its words are locked where this process may lock so much, so that
  /// trackers have the kernel write straight into them.
  /// - Throws: what the kernel answered, where there is no memory or no descriptor. Nothing is left open then.
  public init(sharing layout: DirtyLayout) throws(SystemError) {
    var words = try SharedWords(count: layout.wordCount, name: "dirty pages")
    words.lock()
    do throws(DirtyBitmapError) {
      try self.init(layout: layout, words: words)
    } catch {
      preconditionFailure("\(error)")
    }
  }

  /// A second descriptor of the words, close-on-exec, for the process that shares them; the caller owns it.
  public func duplicateDescriptor() throws(SystemError) -> Descriptor { try storage.duplicateDescriptor() }
}

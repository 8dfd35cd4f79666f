// SPDX-License-Identifier: Apache-2.0
public import LinuxIO
public import Migration

/// Dirty pages in memory that a VMM maps too. Here because `Migration` knows no system, and `LinuxIO` no dirty pages.
extension SharedWords: DirtyWords {}

extension DirtyBitmap where Words == SharedWords {
  /// A bitmap that can be shared, with nothing dirty.
  /// - Throws: what the kernel answered, where there is no memory or no descriptor. Nothing is left open then.
  public init(sharing layout: DirtyLayout) throws(SystemError) {
    let words = try SharedWords(count: layout.wordCount, name: "dirty pages")
    do throws(DirtyBitmapError) {
      try self.init(layout: layout, words: words)
    } catch {
      preconditionFailure("\(error)")
    }
  }

  /// A second descriptor of the words, close-on-exec, for the process that shares them; the caller owns it.
  public func duplicateDescriptor() throws(SystemError) -> Descriptor { try storage.duplicateDescriptor() }
}

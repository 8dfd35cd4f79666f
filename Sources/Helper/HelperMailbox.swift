// SPDX-License-Identifier: Apache-2.0
internal import LinuxIO
internal import Migration
internal import Synchronization

/// What threads have to tell the one that has the session, and the descriptors that go out with it.
final class HelperMailbox: Sendable {
  struct Letter: Sendable {
    let input: HelperSession.Input
    /// Goes out with the reply.
    let file: SentFile?
  }

  let bell: Doorbell
  private let letters = Mutex<[Letter]>([])

  init() throws(SystemError) { bell = try Doorbell() }

  func put(_ input: HelperSession.Input) { put(Letter(input: input, file: nil)) }

  /// - Parameter file: becomes the letter's own.
  func put(_ input: HelperSession.Input, with file: consuming Descriptor) { put(input, with: SentFile(file)) }

  /// - Parameter file: may go out with others, too.
  func put(_ input: HelperSession.Input, with file: SentFile) { put(Letter(input: input, file: file)) }

  private func put(_ letter: Letter) {
    let isFirst = letters.withLock { letters in
      letters.append(letter)
      return letters.count == 1
    }
    // Whoever comes for the first takes the others with it.
    if isFirst { bell.ring() }
  }

  /// All that has come, oldest first.
  func take() -> [Letter] {
    bell.answer()
    return letters.withLock { letters in
      defer { letters = [] }
      return letters
    }
  }
}

/// A descriptor on its way out.
final class SentFile: Sendable {
  let descriptor: Descriptor
  init(_ descriptor: consuming Descriptor) { self.descriptor = descriptor }
}

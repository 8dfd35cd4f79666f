// SPDX-License-Identifier: Apache-2.0

/// What a remote peer asks a guest for, and what the guest has to answer.
///
/// Everything in a request follows from the script's seed, the connection and the request's number, so that both ends
/// and the judge know what is right without being told.
enum PeerRequest: UInt8, CaseIterable, Hashable, Sendable {
  /// The data is written into the guest's memory, and a message tells of it. The guest answers.
  case writeAndSend = 1
  /// The data is in the message. The guest answers.
  case send
  /// Something is added to a word of the guest's memory.
  case fetchAdd
  /// A word of the guest's memory is replaced.
  case compareSwap
  /// What was written last is read back.
  case read

  /// Whether the guest has to answer with a message.
  var wantsReply: Bool { self == .writeAndSend || self == .send }
}

/// The first word of a message, before its data.
struct PeerHeader: Hashable, Sendable {
  var request: PeerRequest
  var isReply = false
  /// Words of data.
  var words: Int
  /// Counted from 0 on each connection.
  var number: UInt32

  /// As the first word of the message.
  var word: UInt64 {
    UInt64(number) | UInt64(words & 0xffff) << 32 | UInt64(request.rawValue) << 48 | (isReply ? 1 << 63 : 0)
  }
}

extension PeerHeader {
  /// What a message's first word says; nil where it is none.
  init?(word: UInt64) {
    guard let request = PeerRequest(rawValue: UInt8(word >> 48 & 0x7f)), word >> 55 & 0xff == 0
    else { return nil }
    self.init(
      request: request, isReply: word >> 63 == 1, words: Int(word >> 32 & 0xffff),
      number: UInt32(truncatingIfNeeded: word))
  }

  /// The answer's header.
  var reply: PeerHeader {
    var reply = self
    reply.isReply = true
    return reply
  }
}

/// Who in the guest works out the answer, which decides what the answer is.
enum PeerAnswerer: Hashable, Sendable {
  /// A processor: ``PeerRequest/answer(to:)``.
  case processor
  /// A GPU's kernel: ``GPUKernel/transformed(_:at:)``.
  case gpu

  /// The answer to the n-th word of a request.
  func answer(to word: UInt64, at index: Int) -> UInt64 {
    switch self {
    case .processor: PeerRequest.answer(to: word)
    case .gpu: GPUKernel.transformed(word, at: index)
    }
  }
}

extension PeerRequest {
  /// A word of the data of a request.
  static func word(seed: UInt64, queuePair: UInt32, number: UInt32, word: Int) -> UInt64 {
    let request = SeededGenerator.mixed(seed ^ UInt64(queuePair) << 32 ^ UInt64(number))
    return SeededGenerator.mixed(request &+ UInt64(truncatingIfNeeded: word) &* 0x9e37_79b9_7f4a_7c15)
  }

  /// What a guest answers to a word of data: the work that it does.
  static func answer(to word: UInt64) -> UInt64 { SeededGenerator.mixed(word ^ 0x5851_f42d_4c95_7f2d) }
}

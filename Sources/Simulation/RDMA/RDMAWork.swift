// SPDX-License-Identifier: Apache-2.0

/// A work request, as software puts it into a send queue.
struct RDMAWorkRequest: Hashable, Sendable {
  enum Operation: UInt8, Hashable, Sendable {
    case send = 1
    case write
    case read
    case fetchAdd
    case compareSwap

    /// Whether it is answered by data, and not by an acknowledgement.
    var isAnsweredByData: Bool { rawValue >= Operation.read.rawValue }
    var isAtomic: Bool { rawValue >= Operation.fetchAdd.rawValue }
  }

  /// Words of a slot in a send queue.
  static let slotWords = 8
  /// The most words of a message.
  static let mostWords = 1 << 16

  var operation: Operation
  /// Whether it is told of when it is done. An error always is.
  var isSignaled = true
  /// Words of the message; an atomic has 1.
  var words: Int
  var localAddress: UInt64
  var localKey: UInt32
  var remoteAddress: UInt64 = 0
  var remoteKey: UInt32 = 0
  /// What an atomic adds, or puts there.
  var operand: UInt64 = 0
  /// What a compare-and-swap wants to find.
  var compared: UInt64 = 0

  /// As it lies in memory.
  var slot: [UInt64] {
    [
      UInt64(operation.rawValue) | (isSignaled ? 1 << 8 : 0) | UInt64(words) << 32, localAddress, remoteAddress,
      UInt64(localKey) | UInt64(remoteKey) << 32, operand, compared, 0, 0,
    ]
  }
}

extension RDMAWorkRequest {
  /// The work request in a slot; nil where there is none.
  init?(slot: ArraySlice<UInt64>) {
    let start = slot.startIndex
    guard slot.count >= Self.slotWords, let operation = Operation(rawValue: UInt8(truncatingIfNeeded: slot[start]))
    else { return nil }
    let words = Int(slot[start] >> 32)
    guard words <= Self.mostWords, operation != .read || words > 0, !operation.isAtomic || words == 1 else {
      return nil
    }
    self.init(
      operation: operation, isSignaled: slot[start] >> 8 & 1 == 1, words: words, localAddress: slot[start + 1],
      localKey: UInt32(truncatingIfNeeded: slot[start + 3]), remoteAddress: slot[start + 2],
      remoteKey: UInt32(slot[start + 3] >> 32), operand: slot[start + 4], compared: slot[start + 5])
  }
}

/// A buffer for a message to come, as software puts it into a receive queue.
struct RDMAReceive: Hashable, Sendable {
  /// Words of a slot in a receive queue.
  static let slotWords = 4

  var address: UInt64
  var key: UInt32
  var words: Int

  /// As it lies in memory.
  var slot: [UInt64] { [UInt64(words), address, UInt64(key), 0] }
}

extension RDMAReceive {
  /// The receive in a slot.
  init(slot: ArraySlice<UInt64>) {
    let start = slot.startIndex
    self.init(
      address: slot[start + 1], key: UInt32(truncatingIfNeeded: slot[start + 2]),
      words: Int(min(slot[start], UInt64(RDMAWorkRequest.mostWords))))
  }
}

/// What a completion queue tells of a work request or a receive.
struct RDMACompletion: Hashable, Sendable {
  enum Status: UInt8, Hashable, Sendable {
    case success = 0
    /// A message was longer than the receive for it.
    case localLengthError
    /// A work request was none, or memory could not be read.
    case localOperationError
    /// A local key does not allow it.
    case localProtectionError
    case remoteInvalidRequest
    /// A remote key does not allow it.
    case remoteAccessError
    /// The peer did not answer.
    case retriesExceeded
    case receiverNotReadyRetriesExceeded
    /// The connection had failed before.
    case flushed
  }

  /// Words of a slot in a completion queue.
  static let slotWords = 4

  var queuePair: UInt32
  var isReceive: Bool
  var status: Status
  /// The index of the work request or receive in its queue, counted from the first that there ever was.
  var workIndex: UInt32
  /// Words of the message.
  var words: Int

  /// As it lies in memory, as the completion of that number, from 0, in its queue.
  func slot(number: UInt32) -> [UInt64] {
    [
      UInt64(number &+ 1) | UInt64(queuePair) << 32,
      UInt64(workIndex) | UInt64(status.rawValue) << 32 | (isReceive ? 1 << 40 : 0), UInt64(words), 0,
    ]
  }
}

extension RDMACompletion {
  /// The completion of that number in a slot; nil where it was not written yet.
  init?(slot: [UInt64], number: UInt32) {
    guard slot.count >= Self.slotWords, Self.isWritten(slot[0], number: number),
      let status = Status(rawValue: UInt8(truncatingIfNeeded: slot[1] >> 32))
    else { return nil }
    self.init(
      queuePair: UInt32(slot[0] >> 32), isReceive: slot[1] >> 40 & 1 == 1, status: status,
      workIndex: UInt32(truncatingIfNeeded: slot[1]), words: Int(truncatingIfNeeded: slot[2]))
  }

  /// Whether the first word of a slot is that of the completion of that number.
  static func isWritten(_ word: UInt64, number: UInt32) -> Bool {
    UInt32(truncatingIfNeeded: word) == number &+ 1
  }
}

/// A doorbell: how far a queue is filled, written to the NIC's registers by whoever filled it.
struct RDMADoorbell: Hashable, Sendable {
  enum Queue: UInt64, Hashable, Sendable {
    case send = 0
    case receive = 8
  }

  /// The queue, which is the register's offset in the doorbell page.
  var queue: Queue
  var queuePair: UInt32
  /// The index after the last that is posted, counted from the first that there ever was.
  var producerIndex: UInt32

  /// The word to write to the register.
  var word: UInt64 { UInt64(producerIndex) | UInt64(queuePair) << 32 }
}

extension RDMADoorbell {
  /// What a write to a register says; nil where there is no such register.
  init?(offset: UInt64, word: UInt64) {
    guard let queue = Queue(rawValue: offset) else { return nil }
    self.init(queue: queue, queuePair: UInt32(word >> 32), producerIndex: UInt32(truncatingIfNeeded: word))
  }
}

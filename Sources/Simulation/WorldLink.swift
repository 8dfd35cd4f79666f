// SPDX-License-Identifier: Apache-2.0
internal import Migration

/// What goes over the link between the two hosts.
extension SimulatedWorld {
  private var name: String { "the simulated link" }

  mutating func beginSending(_ side: SimulatedSide) {
    let index = side.rawValue
    guard let job = directions[index].beginJob(window: scenario.link.windowBytes) else { return }
    switch job {
    case .finish:
      queue.put(.finished(side), at: now.adding(microseconds: scenario.link.finishMicroseconds))
    case .memory(let parcel):
      let rate = max(1, scenario.link.bytesPerMicrosecond)
      let time = now.adding(microseconds: (bytes(of: parcel) + rate - 1) / rate)
      queue.put(.parcelOut(parcel), at: time)
    case .frame(let frame):
      let bytes = UInt64(frame.header.length + StreamFormat.headerSize)
      let rate = max(1, scenario.link.bytesPerMicrosecond)
      queue.put(.frameOut(side, frame), at: now.adding(microseconds: (bytes + rate - 1) / rate))
    }
  }

  mutating func endFrame(_ side: SimulatedSide, _ frame: OutgoingFrame) {
    let index = side.rawValue
    directions[index].isSending = false
    var payload: [UInt8] = []
    switch frame.payload {
    case .bytes(let bytes): payload = bytes
    case .buffer(let buffer):
      payload = hosts[index].buffers[buffer]
      hosts[index].bufferUsers[buffer] = nil
    }
    guard !directions[index].isBroken else { return sendingFailed(side) }
    let header = frame.header.encoded(payload: payload.span, checksum: checksum)
    let preamble = directions[index].sentBytes == 0 ? StreamFormat.preamble(checksum: checksum) : []
    let (arriving, breaks) = directions[index].transmit(
      [preamble, header, payload], faults: side == .source ? scenario.link : nil)
    let arrival = now.adding(microseconds: scenario.link.delayMicroseconds)
    for chunk in arriving { queue.put(.arrival(side.other, chunk), at: arrival) }
    if breaks {
      for direction in directions.indices { directions[direction].isBroken = true }
      queue.put(.arrival(side.other, nil), at: arrival)
      queue.put(.arrival(side, nil), at: arrival)
      return sendingFailed(side)
    }
    queue.put(.deliver(side, .sent(frame.payload)), at: now)
    beginSending(side)
  }

  /// A side hands a frame to the channel.
  mutating func noteWord(_ type: FrameType?) {
    if type == .commit { noteCommit() }
    guard let planned = scenario.link.breaksAfterWord else { return }
    let isIt =
      switch planned.word {
      case .loaded: type == .loaded
      case .commit: type == .commit
      case .running: type == .running
      }
    if isIt { queue.put(.linkBreaks, at: now.adding(microseconds: planned.microseconds)) }
  }

  /// The connection breaks in the middle.
  mutating func breakLink() {
    for direction in directions.indices {
      directions[direction].isBroken = true
      directions[direction].isClosed = true
    }
    for side in SimulatedSide.allCases { receive(side) }
  }

  private mutating func sendingFailed(_ side: SimulatedSide) {
    let brokenPipe = ErrorNumber(rawValue: 32)
    queue.put(.deliver(side, .channelFailed(ChannelError("writing to", channel: name, errno: brokenPipe))), at: now)
    beginSending(side)
  }

  mutating func endFinish(_ side: SimulatedSide) {
    directions[side.rawValue].isSending = false
    queue.put(.deliver(side, .channelFinished), at: now)
    beginSending(side)
  }

  mutating func arrive(_ side: SimulatedSide, _ bytes: [UInt8]?) {
    let direction = side.other.rawValue
    if let bytes { directions[direction].arrive(bytes) } else { directions[direction].isClosed = true }
    receive(side)
  }

  /// Gives this side the frames that have come and that it offers a buffer for.
  mutating func receive(_ side: SimulatedSide) {
    let direction = side.other.rawValue
    guard !isDone(side), let reception = directions[direction].receive() else { return }
    switch reception {
    case .item(let item, let buffer, let payload):
      if let buffer {
        if case .deviceData = item { hosts[side.rawValue].buffers[buffer] = payload }
        hosts[side.rawValue].bufferUsers[buffer] = nil
      }
      queue.put(.deliver(side, .received(buffer: buffer, item)), at: now)
      beginSending(side.other)
      receive(side)
    case .failed(let error):
      queue.put(.deliver(side, .streamFailed(error)), at: now)
    }
  }

  /// A host whose session is over closes its end of the link.
  mutating func closeLink(_ side: SimulatedSide, failed: Bool) {
    for direction in directions.indices { directions[direction].isBroken = true }
    if failed { directions[side.rawValue].dropJobs() }
    queue.put(.arrival(side.other, nil), at: now.adding(microseconds: scenario.link.delayMicroseconds))
    beginSending(side.other)
  }
}

extension SimulatedSide {
  /// The side at the other end of the link.
  public var other: SimulatedSide { self == .source ? .destination : .source }
}

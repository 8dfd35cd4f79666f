// SPDX-License-Identifier: Apache-2.0
internal import LinuxIO
internal import Migration
internal import Synchronization

/// The threads of one run of a session, and how its effects get to them.
final class SessionLanes: Sendable {
  private let devices: [DeviceLanes]
  private let names: [DeviceName]
  private let controlLanes: [Lane]
  private let dataLanes: [Lane]
  private let sending: Lane
  private let receiving: Lane
  private let memory: (any MovingMemory)?
  private let memoryLane: Lane
  private let limiters: [(any RateLimiter)?]
  private let limiting: Lane
  private let channel: any Channel
  private let buffers: [TransferBuffer]
  private let events: BlockingQueue<SessionEvent>
  // Each of these is used by one lane only; the lock is there because the compiler can't know.
  private let sink: Mutex<FrameSink>
  private let source: Mutex<FrameSource>
  private let answerBuffer: TransferBuffer

  init(
    devices: [any MigratableDevice], memory: (any MovingMemory)?, limiters: [(any RateLimiter)?],
    channel: any Channel, checksum: StreamChecksum, buffers: [TransferBuffer], events: BlockingQueue<SessionEvent>
  ) throws(SystemError) {
    self.devices = devices.enumerated().map { DeviceLanes(device: $1, index: $0, checksum: checksum, events: events) }
    names = devices.map(\.name)
    var control: [Lane] = []
    var data: [Lane] = []
    for index in devices.indices {
      control.append(try Lane(name: "control \(index)"))
      data.append(try Lane(name: "data \(index)"))
    }
    controlLanes = control
    dataLanes = data
    sending = try Lane(name: "sending")
    receiving = try Lane(name: "receiving")
    self.memory = memory
    memoryLane = try Lane(name: "memory")
    self.limiters = limiters
    limiting = try Lane(name: "limiting")
    answerBuffer = try TransferBuffer(count: StreamFormat.headerSize)
    self.channel = channel
    self.buffers = buffers
    self.events = events
    sink = Mutex(FrameSink(channel: channel, checksum: checksum))
    source = Mutex(FrameSource(channel: channel, checksum: checksum))
  }

  func perform(_ effects: [SessionEffect], stopVCPUs: () -> Void, note: (SessionNote) -> Void) {
    for effect in effects {
      switch effect {
      case .control(let index, let request):
        let device = devices[index]
        controlLanes[index].put { device.control(request) }
      case .read(let index, let number):
        let device = devices[index]
        let buffer = buffers[number]
        dataLanes[index].put { device.read(into: buffer, number: number) }
      case .write(let index, let number, let bytes):
        let device = devices[index]
        let buffer = buffers[number]
        dataLanes[index].put { device.write(bytes, of: buffer, number: number) }
      case .send(let frame):
        sending.put { [self] in send(frame) }
      case .finishChannel:
        sending.put { [self] in finishChannel() }
      case .receive(let number):
        receiving.put { [self] in receive(number) }
      case .stopVCPUs:
        stopVCPUs()
      case .readPages(let moment):
        memoryLane.put { [self] in events.put(memory.map { .dirty($0.read(moment)) } ?? Self.withoutMemory) }
      case .sendPages:
        memoryLane.put { [self] in sendPages() }
      case .restartTracking(let device):
        memoryLane.put { [self] in memory?.restartTracking(device: device) }
      case .limit(let device, let bytesPerSecond):
        limiting.put { [self] in limit(device, to: bytesPerSecond) }
      case .note(let what):
        note(what)
      }
    }
  }

  private func send(_ frame: OutgoingFrame) {
    do throws(ChannelError) {
      try sink.withLock { (sink) throws(ChannelError) in try sink.send(frame, buffers: buffers) }
      events.put(.sent(frame.payload))
    } catch {
      events.put(.channelFailed(error))
    }
  }

  private func sendPages() {
    guard let memory else { return events.put(Self.withoutMemory) }
    do throws(MovingMemoryError) {
      events.put(.pagesSent(bytes: try memory.send()))
    } catch {
      events.put(.memoryFailed(error))
    }
  }

  private static let withoutMemory = SessionEvent.memoryFailed(
    MovingMemoryError("moving guest memory, of which there is none,", errno: .invalidArgument))

  private func limit(_ device: Int, to bytesPerSecond: UInt64?) {
    guard let limiter = limiters[device] else {
      let cause = RateLimiterError.Cause.refused("it has no limiter")
      let name = "\(names[device])"
      let error = RateLimiterError(device: name, kind: .police, operation: "limiting", subject: name, cause: cause)
      return events.put(.limited(device: device, error))
    }
    do throws(RateLimiterError) {
      if let bytesPerSecond { try limiter.limit(to: bytesPerSecond) } else { try limiter.restore() }
      events.put(.limited(device: device, nil))
    } catch {
      events.put(.limited(device: device, error))
    }
  }

  private func finishChannel() {
    do throws(ChannelError) {
      try channel.finish()
      events.put(.channelFinished)
    } catch {
      events.put(.channelFailed(error))
    }
  }

  private func receive(_ number: Int?) {
    let buffer = number.map { buffers[$0] } ?? answerBuffer
    do throws(FrameSource.Fault) {
      let item = try source.withLock { (source) throws(FrameSource.Fault) in
        // Buffers that were offered for frames after the last one have nothing to wait for.
        source.reader.isEnded ? nil : try source.next(buffer: buffer)
      }
      if let item { events.put(.received(buffer: number, item)) }
    } catch {
      switch error {
      case .stream(let fault): events.put(.streamFailed(fault))
      case .channel(let fault): events.put(.channelFailed(fault))
      }
    }
  }

  /// Ends the threads, except those of devices that hang.
  func finish(hung: [Bool]) {
    channel.cancel()
    sending.finish()
    receiving.finish()
    memory?.cancel()
    memoryLane.finish()
    // Whoever still waits for a limiter has been told that nobody does.
    limiting.abandon()
    for index in devices.indices where !(hung.indices.contains(index) && hung[index]) {
      controlLanes[index].finish()
      dataLanes[index].finish()
    }
  }
}

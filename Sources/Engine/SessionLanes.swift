// SPDX-License-Identifier: Apache-2.0
internal import LinuxIO
internal import Migration
internal import Synchronization

/// The lanes of one run of a session, and how its effects get to them.
final class SessionLanes: Sendable {
  private let devices: [DeviceLanes]
  private let names: [DeviceName]
  private let memory: (any MovingMemory)?
  private let limiters: [(any RateLimiter)?]
  private let channel: any Channel
  private let buffers: [TransferBuffer]
  private let inbox: SessionInbox
  // Each of these is used by one lane only; the lock is there because the compiler can't know.
  private let sink: Mutex<FrameSink>
  private let source: Mutex<FrameSource>
  private let answerBuffer: TransferBuffer
  private let crew: LaneCrew

  /// The lanes by their numbers in the crew: behind two for each device.
  private enum Shared: Int, CaseIterable { case session, sending, receiving, memory, limiting }
  private func lane(_ shared: Shared) -> Int { 2 * devices.count + shared.rawValue }
  private static func controlLane(of device: Int) -> Int { 2 * device }
  private static func dataLane(of device: Int) -> Int { 2 * device + 1 }

  init(
    devices: [any MigratableDevice], memory: (any MovingMemory)?, limiters: [(any RateLimiter)?],
    channel: any Channel, checksum: StreamChecksum, buffers: [TransferBuffer], inbox: SessionInbox
  ) throws(SystemError) {
    self.devices = devices.enumerated().map { DeviceLanes(device: $1, index: $0, checksum: checksum, inbox: inbox) }
    names = devices.map(\.name)
    self.memory = memory
    self.limiters = limiters
    self.channel = channel
    self.buffers = buffers
    self.inbox = inbox
    sink = Mutex(FrameSink(channel: channel, checksum: checksum))
    source = Mutex(FrameSource(channel: channel, checksum: checksum))
    answerBuffer = try TransferBuffer(count: StreamFormat.headerSize)
    crew = try LaneCrew(lanes: 2 * devices.count + Shared.allCases.count, name: "lane")
  }

  /// Lets a session begin, on the lane that is its own.
  func begin<Machine: SessionMachine>(_ steps: SessionSteps<Machine>) {
    inbox.open(crew, ownJob { steps.step() })
    crew.put([ownJob { steps.begin() }])
  }

  /// A job of the session itself.
  func ownJob(_ body: @escaping @Sendable () -> [LaneCrew.Job]) -> LaneCrew.Job {
    LaneCrew.Job(on: lane(.session), body)
  }

  /// The jobs for what the session wants done. Whoever watches is told at once.
  func jobs(
    for effects: [SessionEffect], at now: MonotonicTime, _ observer: SessionRunner.Observer
  ) -> [LaneCrew.Job] {
    var jobs: [LaneCrew.Job] = []
    for effect in effects {
      switch effect {
      case .note(let what): observer.note(what, now)
      case .stopVCPUs: observer.stopVCPUs()
      case .control(let index, let request):
        let device = devices[index]
        jobs.append(LaneCrew.Job(on: Self.controlLane(of: index)) { device.control(request) })
      case .read(let index, let number):
        let device = devices[index]
        let buffer = buffers[number]
        jobs.append(LaneCrew.Job(on: Self.dataLane(of: index)) { device.read(into: buffer, number: number) })
      case .write(let index, let number, let bytes):
        let device = devices[index]
        let buffer = buffers[number]
        jobs.append(LaneCrew.Job(on: Self.dataLane(of: index)) { device.write(bytes, of: buffer, number: number) })
      case .send(let frame):
        jobs.append(LaneCrew.Job(on: lane(.sending)) { [self] in send(frame) })
      case .finishChannel:
        jobs.append(LaneCrew.Job(on: lane(.sending)) { [self] in finishChannel() })
      case .receive(let number):
        jobs.append(LaneCrew.Job(on: lane(.receiving)) { [self] in receive(number) })
      case .readPages(let moment):
        jobs.append(
          LaneCrew.Job(on: lane(.memory)) { [self] in
            inbox.following(memory.map { .dirty($0.read(moment)) } ?? Self.withoutMemory)
          })
      case .sendPages:
        jobs.append(LaneCrew.Job(on: lane(.memory)) { [self] in sendPages() })
      case .restartTracking(let device):
        jobs.append(
          LaneCrew.Job(on: lane(.memory)) { [self] in
            memory?.restartTracking(device: device)
            return []
          })
      case .limit(let device, let bytesPerSecond):
        jobs.append(LaneCrew.Job(on: lane(.limiting)) { [self] in limit(device, to: bytesPerSecond) })
      }
    }
    return jobs
  }

  private func send(_ frame: OutgoingFrame) -> [LaneCrew.Job] {
    do throws(ChannelError) {
      try sink.withLock { (sink) throws(ChannelError) in try sink.send(frame, buffers: buffers) }
      return inbox.following(.sent(frame.payload))
    } catch {
      return inbox.following(.channelFailed(error))
    }
  }

  private func sendPages() -> [LaneCrew.Job] {
    guard let memory else { return inbox.following(Self.withoutMemory) }
    do throws(MovingMemoryError) {
      return inbox.following(.pagesSent(bytes: try memory.send()))
    } catch {
      return inbox.following(.memoryFailed(error))
    }
  }

  private static let withoutMemory = SessionEvent.memoryFailed(
    MovingMemoryError("moving guest memory, of which there is none,", errno: .invalidArgument))

  private func limit(_ device: Int, to bytesPerSecond: UInt64?) -> [LaneCrew.Job] {
    guard let limiter = limiters[device] else {
      let cause = RateLimiterError.Cause.refused("it has no limiter")
      let name = "\(names[device])"
      let error = RateLimiterError(device: name, kind: .police, operation: "limiting", subject: name, cause: cause)
      return inbox.following(.limited(device: device, error))
    }
    do throws(RateLimiterError) {
      if let bytesPerSecond { try limiter.limit(to: bytesPerSecond) } else { try limiter.restore() }
      return inbox.following(.limited(device: device, nil))
    } catch {
      return inbox.following(.limited(device: device, error))
    }
  }

  private func finishChannel() -> [LaneCrew.Job] {
    do throws(ChannelError) {
      try channel.finish()
      return inbox.following(.channelFinished)
    } catch {
      return inbox.following(.channelFailed(error))
    }
  }

  private func receive(_ number: Int?) -> [LaneCrew.Job] {
    let buffer = number.map { buffers[$0] } ?? answerBuffer
    do throws(FrameSource.Fault) {
      let item = try source.withLock { (source) throws(FrameSource.Fault) in
        // Buffers that were offered for frames after the last one have nothing to wait for.
        source.reader.isEnded ? nil : try source.next(buffer: buffer)
      }
      return item.map { inbox.following(.received(buffer: number, $0)) } ?? []
    } catch {
      switch error {
      case .stream(let fault): return inbox.following(.streamFailed(fault))
      case .channel(let fault): return inbox.following(.channelFailed(fault))
      }
    }
  }

  /// Ends the threads, except those of devices that hang.
  func finish(hung: [Bool]) {
    inbox.close()
    channel.cancel()
    memory?.cancel()
    let left = hung.indices.filter { hung[$0] }.flatMap { [Self.controlLane(of: $0), Self.dataLane(of: $0)] }
    // Whoever still waits for a limiter has been told that nobody does.
    crew.finish(leaving: left + [lane(.limiting)])
  }
}

// SPDX-License-Identifier: Apache-2.0
public import Migration

/// A migratable device that is nothing but a value: states, content, data sessions, and failures by script.
///
/// It behaves as a kernel driver does. Whoever drives it says what time it is, and applies the durations that it names.
public struct SimulatedDevice: Sendable {
  /// What it is like.
  public let configuration: Configuration
  /// The states that it has.
  public let graph: StateGraph
  /// The state that it is in.
  public private(set) var state: MigrationState
  /// The number of the data session that is open; nil where none is.
  public private(set) var session: Int?
  /// Whether its last change of state was a reset: it does nothing until a driver sets it up.
  public private(set) var isFreshFromReset = false
  /// Whether its guest reset it: it may have done so after the device was asked last where it is.
  public private(set) var wasResetByGuest = false
  /// A request to stop failed, and the device has not been stopped since: as mlx5 may be then, it is half suspended
  /// whatever state it reports.
  public private(set) var isHalfSuspended = false
  /// The digest of its content when its image was complete, on the source.
  public private(set) var savedDigest: UInt64?
  /// The digest of its content when it left RESUMING, on the destination.
  public private(set) var loadedDigest: UInt64?

  /// The function of a world whose driver this is does not take the image that was written.
  var functionRefusesImage = false

  /// What is in it; of a function of a world, what its driver knows of that.
  private(set) var content: DeviceContent
  private var source: ImageSource?
  private var sink: ImageSink?
  private var sessions = 0
  private var time = MonotonicTime(microseconds: 0)
  private var uses: [(operation: ScriptedFailure.Operation, count: Int)] = []

  /// A device in its initial state.
  public init(_ configuration: Configuration) { self.init(configuration, isFunction: false) }

  /// - Parameter isFunction: whether it is the driver's view of a function of a world.
  init(_ configuration: Configuration, isFunction: Bool) {
    self.configuration = configuration
    graph = StateGraph(features: configuration.features)
    state = configuration.initialState
    content = DeviceContent(configuration, isFunction: isFunction)
  }

  /// A digest of what is in it now. Two devices of one size hold the same where it is the same.
  public var contentDigest: UInt64 { content.digest }

  /// Bytes of its state, as far as its driver knows.
  public var stateBytes: Int { content.imageBytes }

  /// Whether a guest uses it. A device that was reset by its host is empty, and in nobody's use.
  public var isInUse: Bool { content.isInUse }

  /// How often an operation was asked for so far.
  public func uses(of operation: ScriptedFailure.Operation) -> Int {
    uses.first { $0.operation == operation }?.count ?? 0
  }

  // MARK: Before a call: what the script says, and how long it takes

  /// Counts a call. - Returns: what the script says about it.
  mutating func begin(_ operations: [ScriptedFailure.Operation]) -> ScriptedFailure.Effect? {
    var effect: ScriptedFailure.Effect?
    for operation in operations {
      let index = uses.firstIndex { $0.operation == operation } ?? uses.count
      if index == uses.count { uses.append((operation, 0)) }
      uses[index].count += 1
      let count = uses[index].count
      let planned = configuration.failures.first { $0.operation == operation && $0.use == count }?.effect
      effect = effect ?? planned
    }
    return effect
  }

  func microseconds(_ request: ControlRequest) -> UInt64 {
    switch request {
    case .setState(.stopCopy): configuration.stopCopyArcMicroseconds
    case .setState: configuration.arcMicroseconds
    case .reset: configuration.resetMicroseconds
    case .readState, .preCopyInfo, .stopCopySize, .flush: configuration.callMicroseconds
    }
  }

  func microseconds(reading most: Int) -> UInt64 {
    let bytes = UInt64(min(most, configuration.mostBytesPerRead, source?.availableBytes ?? 0))
    return configuration.callMicroseconds + bytes / max(1, configuration.readBytesPerMicrosecond)
  }

  func microseconds(writing bytes: Int) -> UInt64 {
    configuration.callMicroseconds + UInt64(bytes) / max(1, configuration.writeBytesPerMicrosecond)
  }

  // MARK: The calls

  /// Carries out a control request; ``ControlRequest/preCopyInfo`` on the session of that number.
  mutating func answer(
    _ request: ControlRequest, session handle: Int?, script: ScriptedFailure.Effect?, at now: MonotonicTime
  ) -> Result<ControlAnswer, DeviceError> {
    run(until: now)
    switch request {
    case .setState(let target): return setState(target, script: script)
    case .readState:
      if let error = failure(.readState, script) { return .failure(error) }
      return .success(.state(state))
    case .stopCopySize:
      if let error = failure(.stopCopySize, script) { return .failure(error) }
      return .success(.stopCopySize(configuration.tellsStopCopySize ? UInt64(content.imageBytes) : nil))
    case .preCopyInfo: return preCopyInfo(session: handle, script: script)
    case .flush:
      if let error = failure(.flush, script) { return .failure(error) }
      return .success(.flushed)
    case .reset:
      if let error = failure(.reset, script) { return .failure(error) }
      reset()
      return .success(.reset)
    }
  }

  /// The guest resets the device and sets it up anew.
  mutating func resetByGuest(at now: MonotonicTime) {
    run(until: now)
    reset()
    content.program()
    isFreshFromReset = false
    wasResetByGuest = true
  }

  /// The last descriptor of the device is closed.
  mutating func resetByHost(at now: MonotonicTime) {
    run(until: now)
    reset()
  }

  private mutating func reset() {
    content.clear()
    closeSession()
    state = .running
    isFreshFromReset = true
    isHalfSuspended = false
  }

  private func failure(_ operation: DeviceOperation, _ script: ScriptedFailure.Effect?) -> DeviceError? {
    if case .fails(let errno, _) = script { DeviceError(operation, .errno(errno)) } else { nil }
  }

  private mutating func setState(
    _ target: MigrationState, script: ScriptedFailure.Effect?
  ) -> Result<ControlAnswer, DeviceError> {
    let operation = DeviceOperation.setState(target)
    if case .fails(let errno, let place) = script {
      if case .at(let state) = place { move(to: state) }
      if target == .stop || target == .stopCopy, state.mayWriteMemory { isHalfSuspended = true }
      return .failure(DeviceError(operation, .errno(errno)))
    }
    guard let path = graph.path(from: state, to: target) else {
      return .failure(DeviceError(operation, .errno(.invalidArgument)))
    }
    let opens = graph.opensData(from: state, to: target)
    for next in path {
      if state == .resuming, let problem = imageProblem {
        return .failure(DeviceError(operation, .errno(problem)))
      }
      move(to: next)
    }
    return .success(.moved(openedData: opens))
  }

  /// Why what was written can't be used; nil where the device takes it.
  private var imageProblem: ErrorNumber? {
    if functionRefusesImage { return .invalidArgument }
    guard configuration.verifiesImage, let sink else { return nil }
    let isRight =
      sink.isWhole && sink.stated.map { ($0.parts, $0.digest) == (UInt64(content.count), content.digest) } == true
    return isRight ? nil : .invalidArgument
  }

  private mutating func move(to next: MigrationState) {
    let before = state
    guard next != before else { return }
    state = next
    isFreshFromReset = false
    if !next.mayWriteMemory { isHalfSuspended = false }
    if before == .resuming, next == .stop {
      content.adopt()
      loadedDigest = content.digest
    }
    if before.isSaving, next.isSaving {
      if next == .stopCopy { source?.finish(content) }
    } else {
      closeSession()
      if next.hasDataDescriptor { openSession(in: next) }
    }
    if next == .stopCopy { savedDigest = content.digest }
  }

  private mutating func openSession(in state: MigrationState) {
    functionRefusesImage = false
    sessions += 1
    session = sessions
    if state == .resuming {
      sink = ImageSink()
      return
    }
    let initial = configuration.initialBytes.map { ($0 + configuration.pageBytes - 1) / configuration.pageBytes }
    source = ImageSource(content, initialParts: initial ?? content.count)
    if state == .stopCopy { source?.finish(content) }
  }

  private mutating func closeSession() {
    session = nil
    source = nil
    sink = nil
  }

  /// Lets time pass: a device that may run changes what is in it.
  private mutating func run(until now: MonotonicTime) {
    let elapsed = now.microseconds(since: time)
    time = now
    guard state.mayWriteMemory else { return }
    let changed = content.run(microseconds: elapsed)
    let areOffered = !configuration.offersOnInfoOnly && offersChanges
    source?.note(changed: changed, offered: areOffered, content)
  }

  /// The driver has asked the function what is in it.
  /// - Parameters:
  ///   - records: what changed since it last asked.
  ///   - count: how many records there are now.
  mutating func update(_ records: [(index: Int, words: [UInt64])], count: Int) {
    content.truncate(to: count)
    for record in records { content.set(record: record.index, record.words) }
    let areOffered = !configuration.offersOnInfoOnly && offersChanges
    source?.note(changed: records.map(\.index), offered: areOffered, content)
  }

  private var offersChanges: Bool { state == .preCopy || configuration.offersInPreCopyP2P }

  // MARK: Data sessions

  private mutating func preCopyInfo(
    session handle: Int?, script: ScriptedFailure.Effect?
  ) -> Result<ControlAnswer, DeviceError> {
    if let error = failure(.preCopyInfo, script) { return .failure(error) }
    guard handle != nil, handle == session else { return .failure(DeviceError(.preCopyInfo, .errno(.noDevice))) }
    guard state == .preCopy || state == .preCopyP2P else {
      return .failure(DeviceError(.preCopyInfo, .errno(.invalidArgument)))
    }
    if offersChanges { source?.offerKept(content) }
    let initial = source?.initialBytes ?? 0
    let dirty = (source?.availableBytes ?? 0) - initial
    return .success(.preCopyInfo(PreCopyInfo(initialBytes: UInt64(initial), dirtyBytes: UInt64(dirty))))
  }

  /// Reads from the session of that number, into a buffer of that size. ENOMSG and 0 look the same here.
  mutating func read(
    session handle: Int?, most: Int, script: ScriptedFailure.Effect?, at now: MonotonicTime
  ) -> Result<[UInt8], DeviceError> {
    run(until: now)
    if let error = failure(.readData, script) { return .failure(error) }
    guard handle != nil, handle == session, state.isSaving else {
      return .failure(DeviceError(.readData, .errno(.noDevice)))
    }
    let bytes = source?.read(most: min(most, configuration.mostBytesPerRead), content)
    return .success(bytes ?? [])
  }

  /// Writes into the session of that number.
  mutating func write(
    _ bytes: Span<UInt8>, session handle: Int?, script: ScriptedFailure.Effect?, at now: MonotonicTime
  ) -> DeviceError? {
    run(until: now)
    if let error = failure(.writeData, script) { return error }
    guard handle != nil, handle == session, state == .resuming else {
      return DeviceError(.writeData, .errno(.noDevice))
    }
    do throws(ImageSink.Problem) {
      try sink?.write(bytes, into: &content)
      return nil
    } catch {
      return DeviceError(.writeData, .errno(error == .unknownRecord ? .notSupported : .invalidArgument))
    }
  }
}

import CRunnel

/// A dense row-major tensor. f16 and bf16 are 16-bit patterns.
public struct Tensor: Sendable, Equatable {
  public enum DType: UInt32, Sendable {
    case f32 = 1
    case f16, bf16, i32, i64, u8, i8

    var bytes: Int {
      switch self {
      case .u8, .i8: return 1
      case .f16, .bf16: return 2
      case .f32, .i32: return 4
      case .i64: return 8
      }
    }
  }
  public let dtype: DType
  public let shape: [Int]
  public private(set) var bytes: [UInt8]

  public init(_ values: [Float], shape: [Int]? = nil) { self.init(.f32, values, shape) }
  public init(_ values: [Int32], shape: [Int]? = nil) { self.init(.i32, values, shape) }
  public init(_ values: [Int64], shape: [Int]? = nil) { self.init(.i64, values, shape) }
  public init(_ values: [UInt8], shape: [Int]? = nil) { self.init(.u8, values, shape) }
  public init(_ values: [Int8], shape: [Int]? = nil) { self.init(.i8, values, shape) }
  public init(halves: [UInt16], dtype: DType, shape: [Int]? = nil) {
    precondition(dtype == .f16 || dtype == .bf16, "halves are f16 or bf16")
    self.init(dtype, halves, shape)
  }
  private init<T>(_ dtype: DType, _ values: [T], _ shape: [Int]?) {
    self.dtype = dtype
    self.shape = shape ?? [values.count]
    precondition(self.shape.reduce(1, *) == values.count, "a tensor of another shape")
    bytes = values.withUnsafeBytes(Array.init)
  }
  init(_ c: rnl_tensor, _ bytes: [UInt8]) {
    dtype = DType(rawValue: UInt32(c.dtype))!
    let d = c.dims
    shape = [d.0, d.1, d.2, d.3, d.4, d.5].prefix(Int(c.rank)).map(Int.init)
    self.bytes = Array(bytes.prefix(shape.reduce(1, *) * dtype.bytes))
  }

  public var floats: [Float] { values(.f32) }
  public var int32s: [Int32] { values(.i32) }
  public var int64s: [Int64] { values(.i64) }
  private func values<T>(_ wanted: DType) -> [T] {
    precondition(dtype == wanted, "the tensor holds \(dtype)")
    return bytes.withUnsafeBytes { raw in
      [T](unsafeUninitializedCapacity: raw.count / MemoryLayout<T>.stride) { to, count in
        raw.copyBytes(to: UnsafeMutableRawBufferPointer(to))
        count = raw.count / MemoryLayout<T>.stride
      }
    }
  }
}

/// What the library reads and writes: tensors in memory that stays where it is.
private final class Lent {
  let names: UnsafeMutablePointer<CChar>
  let data: UnsafeMutableRawPointer
  var c = rnl_tensor()

  init(name: String, bytes: Int) {
    names = name.withCString { text in
      let size = name.utf8.count + 1
      let copy = UnsafeMutablePointer<CChar>.allocate(capacity: size)
      copy.initialize(from: text, count: size)
      return copy
    }
    data = .allocate(byteCount: max(bytes, 1), alignment: 64)
    c.name = UnsafePointer(names)
    c.data = data
    c.bytes = bytes
  }
  convenience init(name: String, _ tensor: Tensor) {
    self.init(name: name, bytes: tensor.bytes.count)
    tensor.bytes.withUnsafeBytes { data.copyMemory(from: $0.baseAddress ?? UnsafeRawPointer(data), byteCount: $0.count) }
    c.dtype = Int32(tensor.dtype.rawValue)
    c.rank = Int32(tensor.shape.count)
    withUnsafeMutableBytes(of: &c.dims) { dims in
      for (axis, size) in tensor.shape.enumerated() where axis < 6 { dims.bindMemory(to: Int64.self)[axis] = Int64(size) }
    }
  }
  deinit {
    names.deallocate()
    data.deallocate()
  }
}

func runProgram(_ session: OpaquePointer, _ program: String?, _ inputs: [String: Tensor], _ outputs: [String]) throws -> [String: Tensor] {
  let lent = inputs.map { Lent(name: $0.key, $0.value) }
  return try withExtendedLifetime(lent) {
    let given = lent.map(\.c)
    // How large the outputs are is asked first.
    let asked = outputs.map { Lent(name: $0, bytes: 0) }
    var shapes = asked.map(\.c)
    try check(rnl_session_output_shapes(session, program, given, given.count, 0, &shapes, shapes.count))
    let results = zip(outputs, shapes).map { Lent(name: $0, bytes: $1.bytes) }
    var got = results.map(\.c)
    try check(rnl_session_run(session, program, given, given.count, &got, got.count))
    return withExtendedLifetime((asked, results)) {
      Dictionary(uniqueKeysWithValues: zip(outputs, got).map { name, tensor in
        (name, Tensor(tensor, Array(UnsafeRawBufferPointer(start: tensor.data, count: tensor.bytes))))
      })
    }
  }
}
